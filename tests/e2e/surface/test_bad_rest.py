"""Bad requests to every call over REST: a clear 4xx in JSON, at once, never a 5xx.

What is tried follows the descriptors, so a new call or field is covered by itself.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest
from bad_values import in_body, in_path, in_query
from calls import CALLS, FORMS, PUBLIC, SIGNED, Answer, Api, Things, filled, query_of, request_of, request_type
from google.api import field_behavior_pb2

METHODS = sorted(CALLS)
#: Without those whose every fault is a signature that is not right; the tests of hooks have them;
#: and without forms.
WITH_BODY = sorted(method for method, call in CALLS.items() if call.body and method not in SIGNED | FORMS)
#: Seconds a refusal may take on a machine that is busy with other tests too.
AT_ONCE = 15.0

BROKEN = (
    b"{",
    b'{"a":',
    b"{} {}",
    b"[]",
    b"[{}]",
    b"5",
    b'"x"',
    b"null",
    b"nul",
    b"\x00",
    b"{}\x00",
    b"\xff\xfe{}",
    b'{"\xff": 1}',
    b"a=1&b=2",
    b"<a/>",
    b"[" * 100_000,
    b'{"a":' * 100_000,
)


class Try(NamedTuple):
    """One request, and what it may be answered with; any from 400 to 499 when `statuses` is empty."""

    what: str
    verb: str
    target: str
    body: bytes | None = None
    headers: dict[str, str] | None = None
    statuses: tuple[int, ...] = (400,)


async def refused(api: Api, tries: Iterator[Try]) -> None:
    """Make every request, and fail with all that were not refused as they should be."""

    async def fault_of(one: Try) -> str:
        try:
            async with asyncio.timeout(AT_ONCE):
                answer = await api.send(one.verb, one.target, one.body, one.headers)
        except TimeoutError:
            return f"{one.what}: no answer"
        if answer.status < 300 and answer.status in one.statuses:
            return ""
        fault = answer.refusal(*one.statuses)
        return f"{one.what}: {fault}" if fault else ""

    faults = [fault for fault in await asyncio.gather(*map(fault_of, tries)) if fault]
    assert not faults, "\n".join(["", *faults])


def with_field(method: str, things: Things, name: str, text: bytes) -> bytes:
    """The body of a good call with one field as given."""
    rest = {k: v for k, v in things.fields(method).items() if k not in (*CALLS[method].path_fields, name)}
    members = [f"{json.dumps(k)}: {json.dumps(v)}".encode() for k, v in rest.items()]
    return b"{" + b", ".join([*members, f'"{name}": '.encode() + text]) + b"}"


@pytest.mark.parametrize("method", WITH_BODY)
async def test_bodies(api, things, method):
    verb, target, good = request_of(method, things.fields(method))
    call = CALLS[method]

    def tries() -> Iterator[Try]:
        yield from (Try(f"body {body[:30]!r}", verb, target, body) for body in BROKEN)
        for field in request_type(method).DESCRIPTOR.fields:
            if field.name in call.path_fields:
                other = b'"another"' if field.cpp_type == field.CPPTYPE_STRING else b"7"
                body = with_field(method, things, field.name, other)
                yield Try(f"{field.name} in path and body", verb, target, body)
                continue
            for bad in in_body(field):
                body = with_field(method, things, field.name, bad.text)
                yield Try(f"{field.name}: {bad.what}", verb, target, body, None, bad.statuses)
        yield Try("unknown query parameter", verb, f"{target}?bogus=1", good)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data"):
            # At a link a form is what its page sends, and this body is none.
            form = method == "DecideByLink" and kind == "application/x-www-form-urlencoded"
            yield Try(kind, verb, target, good, {"content-type": kind}, (400,) if form else (415,))
        yield Try("compressed", verb, target, good, {"content-encoding": "gzip"}, (415,))

    await refused(api, tries())


def required(method: str) -> Iterator[str]:
    """Fields of a body without which a call is refused."""
    for field in request_type(method).DESCRIPTOR.fields:
        behaviour = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.REQUIRED in behaviour and field.name not in CALLS[method].path_fields:
            yield field.name


MISSPELT = [(method, name) for method in WITH_BODY for name in required(method)]


@pytest.mark.parametrize(("method", "name"), MISSPELT)
async def test_a_misspelt_field_is_missed(api, things, method, name):
    """The gateway drops what the API does not know, so what must be there is named as what is not."""
    verb, target, _ = request_of(method, things.fields(method))
    rest = {k: v for k, v in things.fields(method).items() if k not in CALLS[method].path_fields}
    rest[f"{name}_"] = rest.pop(name)
    answer = await api.send(verb, target, json.dumps(rest).encode())
    assert answer.refusal(400) == ""
    assert name in json.dumps(answer.json()["details"])


@pytest.mark.parametrize("method", WITH_BODY)
async def test_fifty_megabytes(api, things, method):
    verb, target, _ = request_of(method, things.fields(method))
    sent = 0

    async def much() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"x": "'
        while sent < 50_000_000:
            sent += 100_000
            yield b"a" * 100_000

    answer = None
    async with (
        asyncio.timeout(AT_ONCE),
        api.http.request(
            verb,
            api.url + target,
            data=much(),
            headers={"authorization": f"Bearer {api.key}", "content-type": "application/json"},
        ) as got,
    ):
        answer = Answer(got.status, {k.lower(): v for k, v in got.headers.items()}, await got.read())
    assert answer.refusal(413) == ""
    # Nobody takes all of it in before it is refused.
    assert sent < 40_000_000


@pytest.mark.parametrize("method", METHODS)
async def test_queries(api, things, method):
    call = CALLS[method]
    fields = things.fields(method)
    verb, _, body = request_of(method, fields)
    path = filled(call.path, fields)

    def tries() -> Iterator[Try]:
        for query in ("bogus=1", "x", "=", "limi%74=2", "bogus.a=1", "%00=1", "limit[]=1", "a" * 5_000, "%"):
            yield Try(f"?{query}", verb, f"{path}?{query}", body)
        if call.body:
            return
        for field in request_type(method).DESCRIPTOR.fields:
            if field.name in call.path_fields:
                yield Try(f"{field.name} in path and query", verb, f"{path}?{field.name}=another")
                continue
            rest = query_of({k: v for k, v in fields.items() if k not in (*call.path_fields, field.name)})
            for bad in in_query(field):
                query = f"{rest}{'&' if rest else '?'}{field.name}={bad.text.decode()}"
                yield Try(f"{field.name}={bad.what[:50]}", verb, path + query, None, None, bad.statuses)
            if not field.is_repeated:
                wrong = query_of({field.name: "1"})[1:]
                yield Try(f"{field.name}.x", verb, f"{path}?{field.name}.x=1")
                yield Try(f"{field.name} twice", verb, f"{path}?{wrong}&{wrong}", statuses=(200, 400))

    await refused(api, tries())


@pytest.mark.parametrize("method", [method for method in METHODS if CALLS[method].path_fields and method not in SIGNED])
async def test_paths(api, things, method):
    call = CALLS[method]
    fields = things.fields(method)
    verb, _, body = request_of(method, fields)
    types = request_type(method).DESCRIPTOR.fields_by_name

    def tries() -> Iterator[Try]:
        for name in call.path_fields:
            before, _, after = call.path.partition(f"{{{name}}}")
            for bad in in_path(types[name]):
                path = filled(before, fields) + bad.text.decode() + filled(after, fields)
                # A queue is known by its use alone: one that nobody has used yet is idle.
                idle = name == "queue" and re.fullmatch(rb"[a-z0-9][a-z0-9-]{0,62}", bad.text)
                yield Try(f"{name} is {bad.text[:50]!r}", verb, path, body, None, (200,) if idle else bad.statuses)
        yield Try("a slash at the end", verb, filled(call.path, fields) + "/", body, None, (404,))
        # Of some paths that is another call, with a bad id.
        yield Try("a segment more", verb, filled(call.path, fields) + "/x", body, None, (400, 404))

    await refused(api, tries())


@pytest.mark.parametrize("path", sorted({call.path for call in CALLS.values()}))
async def test_methods_a_path_does_not_have(api, things, path):
    those = {call.verb: name for name, call in CALLS.items() if call.path == path}
    fields = things.fields(next(iter(those.values())))
    others = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} - those.keys()
    # Where a fixed segment meets a variable: templates/validate is asked for as a template of that name.
    fixed = ("/api/v1/templates/validate", "/api/v1/workflows/bulk", "/api/v1/approvals/decide")
    statuses = (400, 404) if path in fixed else (404,)
    await refused(
        api,
        (
            Try(verb, verb, filled(path, fields), b"{}" if verb in ("POST", "PUT", "PATCH") else None, None, statuses)
            for verb in sorted(others)
        ),
    )


BAD_CREDENTIALS = (
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer x"},
    {"authorization": "Bearer wfe_aaaaaaaa_bbbb_cccc"},
    {"authorization": "Basic cm9vdDpyb290"},
    {"authorization": "Bearer " + "a" * 7_000},
    {"authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."},
    {"authorization": "Bearer ü"},
    {"x-api-key": "root", "x-owner": "dev"},
)


@pytest.mark.parametrize("method", [method for method in METHODS if method not in PUBLIC])
async def test_without_credentials(stack, http, things, method):
    nobody = Api(http, stack.url, None)
    verb, target, body = request_of(method, things.fields(method))
    tries = (Try(str(headers)[:60], verb, target, body, headers, (401,)) for headers in BAD_CREDENTIALS)
    await refused(nobody, tries)
    answer = await nobody.send(verb, target, body)
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_nothing_of_all_this_has_done_anything(api, things):
    """The things the refused calls named are as they were."""
    run = (await api.call("GetWorkflow", things.fields("GetWorkflow"))).json()
    assert (run["status"], len(run["approvals"])) == ("waiting_approval", 1)
    template = (await api.call("GetTemplate", things.fields("GetTemplate"))).json()
    assert (template["status"], template["latest_version"], template["source"]) == (
        "published",
        1,
        things.ids["source"],
    )
