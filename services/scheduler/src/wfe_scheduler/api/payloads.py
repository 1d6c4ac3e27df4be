"""Stored JSON as protobuf's Struct and Value, within what one answer can carry."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from wfe_engine.values import SEALED
from wfe_servicekit.values import dict_to_struct, to_value

#: What stands where a sealed value is.
SEALED_NOTE = "[sealed]"
#: Bytes of payloads in one answer. gRPC clients accept 4 MiB and no more unless told to.
MOST_BYTES = 3 << 20

_decode = msgspec.json.decode


class Payloads:
    """Turns the payloads of one answer into messages, until they are MOST_BYTES together.

    What does not fit any more is left out, and a note says how many bytes it has. Whoever maps an answer asks for
    what matters most first.
    """

    __slots__ = ("_left",)

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._left = most

    def value(self, text: str | None, left_out: int = 0) -> Value | None:
        """A Value of JSON text; None for None, unless the store has left that many bytes out already."""
        if text is None:
            return Value(string_value=note(left_out)) if left_out else None
        if len(text) > self._left:
            return Value(string_value=note(len(text)))
        value = to_value(shown(text))
        return value if self._fits(value) else Value(string_value=note(len(text)))

    def struct(self, text: str) -> Struct:
        """A Struct of the JSON text of an object."""
        if len(text) <= self._left:
            plain = shown(text)
            struct = dict_to_struct(plain if isinstance(plain, dict) else {"value": plain})
            if self._fits(struct):
                return struct
        return dict_to_struct({"note": note(len(text))})

    def _fits(self, message: Struct | Value) -> bool:
        size = message.ByteSize()
        if size > self._left:
            return False
        self._left -= size
        return True


def shown(text: str) -> Any:
    """The JSON value of a text as people may see it."""
    try:
        plain = _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return "[not readable]"
    return unsealed(plain) if SEALED in text else plain


def unsealed(plain: Any) -> Any:
    """A JSON value with a note in place of every sealed placeholder."""
    if type(plain) is dict:
        if SEALED in plain:
            return SEALED_NOTE
        return {name: unsealed(item) for name, item in plain.items()}
    if type(plain) is list:
        return [unsealed(item) for item in plain]
    return plain


def note(size: int) -> str:
    """What stands where a payload was left out."""
    return f"[left out: {size} bytes]"


def unix_moment(seconds: float) -> Timestamp:
    """A Timestamp of Unix seconds, to the microsecond, as the store keeps them."""
    microseconds = round(seconds * 1_000_000)
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1_000)
