"""Broken bytes over gRPC: good requests of every method, torn, at the services' own ports and through the gateway."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import wfe.api.v1
from google.protobuf import descriptor_pool, message_factory
from wfe_gateway.api import Binding, bindings
from wfe_gateway.routes import part_of

# Every module, so that the pool of descriptors has the messages of every call.
for _each in pkgutil.iter_modules(wfe.api.v1.__path__):
    importlib.import_module(f"wfe.api.v1.{_each.name}")
#: Also UNIMPLEMENTED: the call never came to its method.
_BAD = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNIMPLEMENTED,
}
_TEXTS = ("", "x", "01a20ef8-878a-7c72-a52b-3999179a752f", "ü" * 30, "completed", "a/b", "1h")
_AT_ONCE = 32
_SECONDS = 20


def torn(good: bytes, chance: random.Random) -> bytes:
    """A message with bytes changed, cut out, doubled, or none of it left."""
    data = bytearray(good)
    for _ in range(chance.randint(1, 5)):
        at = chance.randint(0, len(data))
        how = chance.randrange(5)
        if how == 0:
            data[at : at + chance.randint(1, 4)] = b""
        elif how == 1:
            data[at:at] = chance.randbytes(chance.randint(1, 8))
        elif how == 2:
            data[at:at] = bytes(data[at : at + 9]) * chance.randint(1, 50)
        elif how == 3 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        else:
            # A length, or a number, as large as it goes.
            data[at:at] = bytes([chance.choice((0x0A, 0x12, 0x1A, 0x08, 0x10))]) + b"\xff" * chance.randint(1, 10)
    return bytes(data)


def good(binding: Binding, chance: random.Random) -> bytes:
    """A request of the method with something in every field."""
    name = binding.method.input_type.lstrip(".")
    request = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()
    _fill(request, chance, 3)
    return bytes(request.SerializeToString())


def _fill(message: Any, chance: random.Random, levels: int) -> None:
    for field in message.DESCRIPTOR.fields:
        value: Any
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                _entry(message, field, chance, levels)
            elif levels and field.is_repeated:
                _fill(getattr(message, field.name).add(), chance, levels - 1)
            elif levels:
                getattr(message, field.name).SetInParent()
                _fill(getattr(message, field.name), chance, levels - 1)
            continue
        if field.containing_oneof is not None and chance.random() < 0.5:
            continue
        if field.cpp_type == field.CPPTYPE_STRING:
            value = b"{}" if field.type == field.TYPE_BYTES else chance.choice(_TEXTS)
        elif field.cpp_type == field.CPPTYPE_BOOL:
            value = True
        elif field.cpp_type == field.CPPTYPE_DOUBLE:
            value = chance.choice((0.0, 1.5, -1e300))
        elif field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
            value = chance.choice((0, 1, -1, 2**31 - 1))
        else:
            continue
        if field.is_repeated:
            getattr(message, field.name).extend([value] * chance.randint(1, 3))
        else:
            setattr(message, field.name, value)


def _entry(message: Any, field: Any, chance: random.Random, levels: int) -> None:
    """One entry of a map."""
    entries, name = getattr(message, field.name), chance.choice(_TEXTS)
    if field.message_type.fields_by_name["value"].message_type is None:
        entries[name] = chance.choice(_TEXTS)
    elif levels:
        _fill(entries[name], chance, levels - 1)


def calls(cases: int, keys: Iterable[str], chance: random.Random) -> Iterator[tuple[Binding, str, str]]:
    """So many calls, each with its way in and who makes it: every method by everybody on every way alike often."""
    ways = ("gateway", "itself")
    every = [(binding, way, who) for binding in bindings() for way in ways for who in keys]
    while cases > 0:
        chance.shuffle(every)
        yield from every[:cases]
        cases -= len(every)


async def fuzz(targets: dict[str, str], keys: dict[str, str | None], cases: int, seed: int) -> tuple[int, list[str]]:
    """Send so many requests.

    Args:
        targets: Addresses by name: gateway, scheduler, approvals.
        keys: Of the identities, by name.
        cases: How many in all.
        seed: Of what is sent.

    Returns:
        How many were sent, and what was answered as it must not be.
    """
    chance = random.Random(seed)
    channels = {name: grpc.aio.insecure_channel(address) for name, address in targets.items()}
    faults: Counter[str] = Counter()
    sent = 0

    async def one(binding: Binding, way: str, who: str) -> None:
        nonlocal sent
        where = part_of(binding.service) if way == "itself" else way
        raw = torn(good(binding, chance), chance)
        path = f"/{binding.service}/{binding.method.name}"
        metadata = [("authorization", f"Bearer {keys[who]}")] if keys[who] else []
        sent += 1
        try:
            if binding.method.server_streaming:
                call = channels[where].unary_stream(path)(raw, metadata=metadata, timeout=_SECONDS)
                try:
                    await asyncio.wait_for(call.read(), 1)
                finally:
                    call.cancel()
            else:
                await channels[where].unary_unary(path)(raw, metadata=metadata, timeout=_SECONDS)
        except TimeoutError:
            pass  # a stream that has nothing to say
        except grpc.aio.AioRpcError as error:
            if error.code() in _BAD:
                faults[f"{where} {path} as {who}: {error.code().name} {error.details()} for {raw.hex()[:400]}"] += 1

    waiting = calls(cases, keys, chance)

    async def client() -> None:
        for call in waiting:
            await one(*call)

    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))
    for channel in channels.values():
        await channel.close()
    return sent, [f"{what} ({count} times)" for what, count in faults.items()]
