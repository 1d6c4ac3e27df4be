"""A bad request is refused alike over REST and gRPC: the same code, words, reason and violations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from bad_values import nested
from calls import CALLS, FORMS, SIGNED, message_of, request_type
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import error_details_pb2, status_pb2

#: Without those whose every fault is a signature that is not right; the tests of hooks have them;
#: and without forms.
METHODS = sorted(set(CALLS) - SIGNED - FORMS)
#: What the gateway says of a request it cannot read: no service has seen it.
OF_THE_GATEWAY = {"INVALID_REQUEST", "INVALID_PATH", "PATH_NOT_FOUND", "HEADERS_TOO_LARGE"}
NESTED = json.loads(nested(33))


def bad_values(field: FieldDescriptor) -> Iterator[Any]:
    kind = field.message_type.full_name if field.message_type is not None else ""
    if kind in ("google.protobuf.Struct", "google.protobuf.Value"):
        yield from ({"a": 2.0**53}, {"a": "x\0y"}, {"a\0b": 1}, NESTED, {"$sealed": []}, {"$blob": "x"})
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        yield from ({"a\0b": "x"}, {"": "x"}, {"a": "x" * 10_000})
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        texts = ("a\0b", "nope", "x" * 3_000, "9" * 36)
        yield from ([text] for text in texts) if field.is_repeated else texts
    elif field.cpp_type == FieldDescriptor.CPPTYPE_INT32:
        yield -1


def requests(method: str, good: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A good request with one bad field each, and one without anything but its path."""
    for field in request_type(method).DESCRIPTOR.fields:
        for bad in bad_values(field):
            in_path = field.name in CALLS[method].path_fields
            if not (in_path and "\0" in str(bad)):
                yield good | {field.name: bad}
    yield {name: value for name, value in good.items() if name in CALLS[method].path_fields}


@pytest.fixture(scope="module")
async def own_things(new_things):
    """Things of this module: what is taken after all, as any text is for a reason, is done to them."""
    return await new_things()


@pytest.mark.parametrize("method", METHODS)
async def test_both_say_the_same(stack, api, people, own_things, method):
    call = CALLS[method]
    compared, differences = 0, []
    assert error_details_pb2.ErrorInfo  # its module makes the details readable
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        make = channel.unary_stream if call.method.server_streaming else channel.unary_unary
        for fields in requests(method, own_things.fields(method)):
            rest = await api.call(method, fields)
            if rest.status < 400:
                continue
            said = rest.json()
            if said["details"][0]["reason"] in OF_THE_GATEWAY:
                continue
            answering = make(f"/{call.service}/{method}")(
                message_of(method, fields).SerializeToString(),
                metadata=[("authorization", f"Bearer {people['wanda']}")],
                timeout=20,
            )
            try:
                await (answering.read() if call.method.server_streaming else answering)
            except grpc.aio.AioRpcError as error:
                packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
                over_grpc = json_format.MessageToDict(status_pb2.Status.FromString(packed))
            else:
                over_grpc = {}
            compared += 1
            if over_grpc != json_format.MessageToDict(json_format.ParseDict(said, status_pb2.Status())):
                differences.append(f"{str(fields)[:200]}: {said} over REST, {over_grpc} over gRPC")
    assert not differences, "\n".join(["", *differences])
    # Everything but these has something that can be wrong.
    assert compared or method in {"CountApprovals", "GetSelf", "GetReadiness"}
