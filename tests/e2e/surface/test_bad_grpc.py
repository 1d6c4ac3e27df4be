"""Bad requests to every call over gRPC: a status that says what is wrong, never UNKNOWN or INTERNAL, never a hang.

What is tried follows the descriptors, so a new call or field is covered by itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from calls import CALLS, FORMS, PUBLIC, SIGNED, message_of, part_of, request_of, request_type, status_fault
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.struct_pb2 import Struct, Value
from google.rpc import error_details_pb2, status_pb2

METHODS = sorted(CALLS)
#: Without those whose every fault is a signature that is not right; the tests of hooks have them;
#: and without forms.
UNSIGNED = [method for method in METHODS if method not in SIGNED | FORMS]
Code = grpc.StatusCode
#: What a request that is wrong may be answered with.
REFUSED = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.PERMISSION_DENIED, Code.ALREADY_EXISTS}


@pytest.fixture(scope="session")
async def channel(stack):
    """The gateway's gRPC listener."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 64 << 10)]
    async with grpc.aio.insecure_channel(stack.grpc, options=options) as found:
        yield found


@pytest.fixture(scope="session", params=["gateway", "itself"])
async def either(request, stack, channel):
    """The channel to a method's service, through the gateway and past it."""
    if request.param == "gateway":
        yield lambda _method: channel
        return
    ports = {part: grpc.aio.insecure_channel(stack.service(part)) for part in ("scheduler", "approvals")}
    yield lambda method: ports[part_of(method)]
    for port in ports.values():
        await port.close()


async def code_of(channel: Any, method: str, raw: bytes, key: str | None) -> tuple[Code, str]:
    """The code raw bytes are answered with, and what is wrong with the answer."""
    call = CALLS[method]
    path = f"/{call.service}/{method}"
    metadata = [("authorization", f"Bearer {key}")] if key else []
    try:
        if call.method.server_streaming:
            answering = channel.unary_stream(path)(raw, metadata=metadata, timeout=20)
            # Accepted streams may have nothing to say for days.
            await answering.initial_metadata()
            await asyncio.wait_for(answering.read(), 1)
            answering.cancel()
        else:
            await channel.unary_unary(path)(raw, metadata=metadata, timeout=20)
    except TimeoutError:
        return Code.OK, ""
    except grpc.aio.AioRpcError as error:
        return error.code(), _fault_of(error)
    return Code.OK, ""


def _fault_of(error: grpc.aio.AioRpcError) -> str:
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if packed is None:
        return f"no details: {error.code()} {error.details()}"
    status = status_pb2.Status.FromString(packed)
    if (status.code, status.message) != (error.code().value[0], error.details()):
        return f"two truths: {status} and {error.code()} {error.details()}"
    assert error_details_pb2.ErrorInfo  # its module makes the details readable
    return status_fault(json_format.MessageToDict(status))


async def refused(channel: Any, method: str, key: str | None, tries: Iterator[tuple[str, bytes]], codes: set) -> None:
    """Send everything, and fail with all that was not answered with one of the codes."""

    async def fault_of(what: str, raw: bytes) -> str:
        code, fault = await code_of(channel, method, raw, key)
        if code not in codes:
            return f"{what}: {code}"
        return f"{what}: {fault}" if fault else ""

    faults = [fault for fault in await asyncio.gather(*(fault_of(*one) for one in tries)) if fault]
    assert not faults, "\n".join(["", *faults])


def broken(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Bytes that are no message, and some that may be one by chance."""
    yield "a tag without an end", b"\xff"
    yield "a length beyond the end", b"\x0a\xff\x01x"
    yield "a length without an end", b"\x0a" + b"\xff" * 10
    yield "field 0", b"\x02\x01x"
    yield "wire type 7", b"\x0f\x00"
    yield "a group without an end", b"\x0b" * 200
    yield "bad UTF-8", b"\x0a\x02\xff\xfe"
    yield "cut", good[:-1] if len(good) > 3 else b"\x0a"
    yield "followed by rubbish", good + b"\xff\xff"


@pytest.mark.parametrize("method", METHODS)
async def test_broken_bytes(either, people, things, method):
    """Broken bytes are INVALID_ARGUMENT, through the gateway and at the service's own port."""
    good = message_of(method, things.fields(method)).SerializeToString()
    tries = dict(broken(good))
    fields = request_type(method).DESCRIPTOR.fields_by_number
    if 1 not in fields or fields[1].cpp_type != FieldDescriptor.CPPTYPE_STRING:
        del tries["bad UTF-8"]  # an unknown field, of any bytes
    if not fields:
        del tries["field 0"]
    await refused(either(method), method, people["wanda"], iter(tries.items()), {Code.INVALID_ARGUMENT})


@pytest.mark.parametrize("method", UNSIGNED)
async def test_rubbish(channel, people, method):
    """Whatever the bytes are, the answer is no surprise; those that are a message by chance name nothing there is."""
    chance = random.Random(method)
    tries = ((raw.hex(), raw) for raw in (chance.randbytes(chance.randint(0, 40)) for _ in range(100)))
    codes = REFUSED | {Code.OK}
    await refused(channel, method, people["wanda"], tries, codes)


def struct(depth: int, inside: Any = 1.0) -> Struct:
    """Objects in each other."""
    found = Struct()
    level = found
    for _ in range(depth - 1):
        level.fields["a"].struct_value.SetInParent()
        level = level.fields["a"].struct_value
    if isinstance(inside, str):
        level.fields["a"].string_value = inside
    else:
        level.fields["a"].number_value = inside
    return found


def bad_messages(method: str, fields: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """A good request with one bad field each."""
    for field in request_type(method).DESCRIPTOR.fields:
        request = message_of(method, fields)
        for what, bad in _bad_values(field):
            request.ClearField(field.name)
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                getattr(request, field.name).update(bad)
            elif field.message_type is not None and field.is_repeated:
                getattr(request, field.name).extend(bad)
            elif field.message_type is not None:
                getattr(request, field.name).CopyFrom(bad)
            elif field.is_repeated:
                getattr(request, field.name).extend([bad])
            else:
                setattr(request, field.name, bad)
            yield f"{field.name}: {what}", request.SerializeToString()


def _bad_values(field: FieldDescriptor) -> Iterator[tuple[str, Any]]:
    kind = field.message_type.full_name if field.message_type is not None else ""
    if kind == "google.protobuf.Struct":
        numbers = (float(2**53), -float(2**53), float("nan"), float("inf"), 1e300)
        yield from ((str(number), struct(1, number)) for number in numbers)
        yield "33 levels", struct(34)
        yield "NUL", struct(1, "a\0b")
        name = Struct()
        name.fields["a\0b"].bool_value = True
        yield "NUL in a name", name
        nothing = Struct()
        nothing.fields["a"].SetInParent()
        yield "a value that is none", nothing
    elif kind == "google.protobuf.Value":
        yield from ((str(number), Value(number_value=number)) for number in (float(2**53), float("nan"), float("inf")))
        yield "NUL", Value(string_value="a\0b")
    elif kind == "google.protobuf.Timestamp":
        for seconds, nanos in ((2**62, 0), (-(2**62), 0), (0, -1), (0, 2**31 - 1)):
            yield f"{seconds} {nanos}", type(field.message_type._concrete_class())(seconds=seconds, nanos=nanos)
    elif kind and field.is_repeated and not field.message_type.GetOptions().map_entry:
        one = field.message_type._concrete_class
        yield "an empty one", [one()]
        yield "5,000 empty ones", [one()] * 5_000
    elif kind == "wfe.api.v1.StartSignal":
        made = field.message_type._concrete_class
        yield from ((f"the name {name!r}", made(name=name)) for name in ("", "a b", "1", "a\0b", "a" * 101))
        yield "NUL in its payload", made(name="go", payload=Value(string_value="a\0b"))
    elif kind:
        assert field.message_type.GetOptions().map_entry, f"say what bad values of {field.full_name} are"
        yield "NUL in a name", {"a\0b": "x"}
        yield "NUL in a value", {"a": "x\0y"}
        yield "an empty name", {"": "x"}
        yield "5,000 entries", {f"name-{n}": "x" for n in range(5_000)}
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        yield "NUL", "a\0b"
        yield "300,000 characters", "a" * 300_000
        yield "a line separator", "a\u2028b\x85c" * 100_000
    elif field.cpp_type == FieldDescriptor.CPPTYPE_INT64:
        yield "-1", -1
        yield "2^63-1", 2**63 - 1
    elif field.cpp_type == FieldDescriptor.CPPTYPE_INT32:
        yield "-1", -1
        yield "-2^31", -(2**31)
    else:
        assert field.cpp_type == FieldDescriptor.CPPTYPE_BOOL, f"say what bad values of {field.full_name} are"


@pytest.mark.parametrize("method", UNSIGNED)
async def test_bad_fields(channel, people, things, method):
    tries = bad_messages(method, things.fields(method))
    await refused(channel, method, people["wanda"], tries, {Code.INVALID_ARGUMENT, Code.NOT_FOUND})


@pytest.mark.parametrize("method", ["StartWorkflow", "WatchWorkflow", "CreateTemplate", "ApproveWorkflow"])
async def test_too_much(either, people, method):
    """More than a request may have is refused by whoever sees it first."""
    tries = [("3 MiB", b"\x0a" + b"\xff\xff\xbf\x01" + b"a" * (3 << 20)), ("9 MiB", b"a" * (9 << 20))]
    codes = {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}
    for _, raw in tries:
        code, _ = await code_of(either(method), method, raw, people["wanda"])
        assert code in codes


@pytest.mark.parametrize("method", [method for method in METHODS if method not in PUBLIC])
async def test_without_credentials(either, things, method):
    good = message_of(method, things.fields(method)).SerializeToString()
    tries = [("a good request", good), ("broken bytes", b"\xff"), ("nothing", b"")]
    for key in (None, "x", "wfe_aaaaaaaa_bbbb_cccc", "a" * 7_000):
        await refused(either(method), method, key, iter(tries), {Code.UNAUTHENTICATED})


def delimited(tag: bytes, inside: bytes) -> bytes:
    """A field with its length before it."""
    length, size = b"", len(inside)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return tag + length + bytes([size]) + inside


def nested(levels: int, brackets: str) -> tuple[bytes, bytes]:
    """Bytes of a Struct of objects or lists in each other, and of it as a Value: deeper than this client could
    build one."""

    value = b"\x20\x01"  # true
    for _ in range(levels):
        members = delimited(b"\x0a", delimited(b"\x0a", b"a") + delimited(b"\x12", value))
        value = delimited(b"\x32", delimited(b"\x0a", value)) if brackets == "[]" else delimited(b"\x2a", members)
    return members, value


FREE = ("google.protobuf.Struct", "google.protobuf.Value")
OPEN_FIELDS = [
    (method, field)
    for method in METHODS
    for field in request_type(method).DESCRIPTOR.fields
    if field.message_type is not None and field.message_type.full_name in FREE
]


@pytest.mark.parametrize("levels", [33, 50, 99, 200, 5_000])
@pytest.mark.parametrize(("method", "field"), OPEN_FIELDS, ids=[f"{m}-{f.name}" for m, f in OPEN_FIELDS])
async def test_levels(either, people, things, method, field, levels):
    rest = {name: value for name, value in things.fields(method).items() if name != field.name}
    if method == "AnswerCallback":
        # Each outcome reads fields of its own.
        rest["outcome"] = {"payload": "succeed", "progress": "heartbeat"}[field.name]
    good = message_of(method, rest).SerializeToString()
    tag = bytes([field.number << 3 | 2])
    shapes = {shape: nested(levels, shape)[field.message_type.full_name == FREE[1]] for shape in ("{}", "[]")}
    tries = [(f"{levels} of {shape}", good + delimited(tag, raw)) for shape, raw in shapes.items()]
    await refused(either(method), method, people["wanda"], iter(tries), {Code.INVALID_ARGUMENT})


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_that_ends_without_a_request(either, people, method):
    """It is answered, and does not wait for the client's deadline."""
    call = either(method).stream_unary(f"/{CALLS[method].service}/{method}")
    answering = call(metadata=[("authorization", f"Bearer {people['wanda']}")], timeout=60)
    await answering.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await answering
    assert (refusal.value.code(), _fault_of(refusal.value)) == (Code.INVALID_ARGUMENT, "")


async def test_two_messages_where_one_is_due(either, people):
    async def messages():
        for _ in range(2):
            yield b""

    call = either("GetWorkflow").stream_unary("/wfe.api.v1.WorkflowService/GetWorkflow")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call(messages(), metadata=[("authorization", f"Bearer {people['wanda']}")], timeout=20)
    assert refusal.value.code() in {Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT}


@pytest.mark.parametrize("path", ["/wfe.api.v1.WorkflowService/Nope", "/wfe.api.v1.Nope/Get", "/x/y", "/nope"])
async def test_methods_that_do_not_exist(either, people, path):
    metadata = [("authorization", f"Bearer {people['wanda']}")]
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await either("GetWorkflow").unary_unary(path)(b"", metadata=metadata, timeout=20)
    assert refusal.value.code() == Code.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["StartWorkflow", "ForkWorkflow"])
async def test_idempotency_keys_that_are_none(api, channel, people, things, method):
    fields = things.fields(method)
    metadata = [("authorization", f"Bearer {people['wanda']}"), ("idempotency-key", "a" * 256)]
    call = channel.unary_unary(f"/{CALLS[method].service}/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call(message_of(method, fields).SerializeToString(), metadata=metadata, timeout=20)
    assert refusal.value.code() == Code.INVALID_ARGUMENT
    for key in ("a" * 256, "ü", "a\tb"):
        answer = await api.send(*request_of(method, fields), {"idempotency-key": key})
        assert answer.refusal(400) == ""
