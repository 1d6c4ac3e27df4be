"""Another owner's object and a missing one answer alike, byte for byte, for every call with an id."""

from __future__ import annotations

import uuid

import grpc
import pytest
from calls import CALLS, Api, id_fields, message_of

#: Headers that are of the moment.
_OF_THE_MOMENT = {"date", "x-envoy-upstream-service-time", "x-request-id"}
CASES = [(method, name) for method in sorted(CALLS) for name in id_fields(method)]
#: Filters, of which nothing matches is an empty page; and taking out who is not in, which is no error.
ACCEPTED = {
    ("ListWorkflows", "template_id"),
    ("ListApprovals", "workflow_id"),
    ("BulkWorkflows", "template_id"),
    ("ListKeys", "principal_id"),
    ("RemoveGroupMember", "principal_id"),
}


def missing(fields, name):
    """An id like that one, of nothing."""
    if name == "blob_id":
        return uuid.UUID(int=uuid.UUID(fields[name]).int ^ 0xFFFF).hex
    return "00000000" if len(fields[name]) == 8 else str(uuid.UUID(int=uuid.UUID(fields[name]).int ^ 0xFFFF))


@pytest.fixture(scope="session")
async def foreign(things, rest_as, token):
    """The things of the owner `surface`, and things of the stranger's own."""
    from calls import make_things

    return things, await make_things(rest_as("stranger"), token)


def pair(foreign, method, name):
    """Two calls of the stranger: with one foreign id and with one missing id; all other ids are the stranger's."""
    theirs, own = foreign
    fields = own.fields(method)
    other = {**fields, name: theirs.fields(method)[name]}
    # What belongs to another thing is meant together with it.
    for along in ("snapshot_id", "approval_id", "blob_id", "delivery_id"):
        if name == "id" and along in fields:
            other[along] = theirs.fields(method)[along]
    none = {**other, name: missing(other, name)}
    return other, none


@pytest.mark.parametrize(("method", "name"), CASES)
async def test_over_rest(stack, http, stranger_key, foreign, method, name):
    stranger = Api(http, stack.url, stranger_key)
    other, none = pair(foreign, method, name)
    first, second = [await stranger.call(method, fields) for fields in (other, none)]
    said = [answer.body.replace(fields[name].encode(), b"ID") for answer, fields in ((first, other), (second, none))]
    assert said[0] == said[1]
    heads = [{k: v for k, v in each.headers.items() if k not in _OF_THE_MOMENT} for each in (first, second)]
    assert heads[0] == heads[1]
    if (method, name) in ACCEPTED:
        assert (first.status, first.json().get("total", 0)) == (200, 0)
    else:
        assert first.refusal(404) == ""


@pytest.mark.parametrize(("method", "name"), [case for case in CASES if case not in ACCEPTED])
async def test_over_grpc(stack, stranger_key, foreign, method, name):
    call = CALLS[method]
    answers = []
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        make = channel.unary_stream if call.method.server_streaming else channel.unary_unary
        for fields in pair(foreign, method, name):
            answering = make(f"/{call.service}/{method}")(
                message_of(method, fields).SerializeToString(),
                metadata=[("authorization", f"Bearer {stranger_key}")],
                timeout=20,
            )
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await (answering.read() if call.method.server_streaming else answering)
            error = refusal.value
            details = dict(error.trailing_metadata())["grpc-status-details-bin"]
            ident = fields[name]
            answers.append((error.code(), error.details().replace(ident, "ID"), details.replace(ident.encode(), b"ID")))
    assert answers[0] == answers[1]
    assert answers[0][0] == grpc.StatusCode.NOT_FOUND
