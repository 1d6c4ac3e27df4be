"""Postgres's binary form of one-dimensional arrays: what a commit cycle sends all of its rows as.

The driver's own dumper looks at every element in Python; these take a few tens of nanoseconds for one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

_pack_head = struct.Struct(">iiIii").pack
_NULL = b"\xff\xff\xff\xff"
_LENGTHS = [length.to_bytes(4, "big") for length in range(4096)]

Encode = Callable[[Sequence[Any]], bytes]


@lru_cache(maxsize=16_384)
def _head(oid: int, count: int) -> bytes:
    # One dimension, counted from 1. The flag for nulls is a hint that the server does not use.
    return _pack_head(1, 0, oid, count, 1)


def _texts(values: Sequence[str | bytes | None]) -> bytes:
    """text[] of text, or of its UTF-8 bytes."""
    parts = [_head(25, len(values))]
    add = parts.append
    for value in values:
        if value is None:
            add(_NULL)
            continue
        data = value if type(value) is bytes else value.encode()  # type: ignore[union-attr]
        size = len(data)
        add(_LENGTHS[size] if size < 4096 else size.to_bytes(4, "big"))
        add(data)
    return b"".join(parts)


def _byteas(values: Sequence[bytes | None]) -> bytes:
    parts = [_head(17, len(values))]
    for value in values:
        parts += (_NULL,) if value is None else (len(value).to_bytes(4, "big"), value)
    return b"".join(parts)


def _uuids(values: Sequence[UUID | bytes | None]) -> bytes:
    """uuid[] of UUIDs, or of their bytes."""
    parts = [_head(2950, len(values))]
    add = parts.append
    size = _LENGTHS[16]
    for value in values:
        if value is None:
            add(_NULL)
        else:
            add(size)
            add(value if type(value) is bytes else value.bytes)  # type: ignore[union-attr]
    return b"".join(parts)


def _numbers(oid: int, size: int, code: str) -> Encode:
    one = struct.Struct(f">{code}").pack
    length = size.to_bytes(4, "big")
    packers: dict[int, Callable[..., bytes]] = {}

    def encode(values: Sequence[float | None]) -> bytes:
        count = len(values)
        if count == 1:
            value = values[0]
            return _head(oid, 1) + (_NULL if value is None else length + one(value))
        if None in values:
            return _head(oid, count) + b"".join([_NULL if value is None else length + one(value) for value in values])
        pack = packers.get(count)
        if pack is None:
            pack = struct.Struct(">" + f"i{code}" * count).pack
            if len(packers) < 4096:
                packers[count] = pack
        flat: list[Any] = [size] * (2 * count)
        flat[1::2] = values
        return _head(oid, count) + pack(*flat)

    return encode


#: How a column of each type is sent.
ENCODERS: dict[str, Encode] = {
    "text": _texts,
    "bytea": _byteas,
    "uuid": _uuids,
    "bool": _numbers(16, 1, "?"),
    "int": _numbers(23, 4, "i"),
    "bigint": _numbers(20, 8, "q"),
    "float8": _numbers(701, 8, "d"),
}
