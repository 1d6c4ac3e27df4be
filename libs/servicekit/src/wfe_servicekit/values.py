"""Between protobuf's Struct and Value and plain JSON values.

On the way in nothing is guessed: what a Struct cannot carry exactly is refused, by field. A Struct's numbers
are doubles; an integral one within ±(2^53−1) is an int, beyond that nobody can know which integer was meant.
On the way out nothing fails: what a Struct cannot carry is shown in the nearest form that it can.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value
from wfe_engine.errors import InvalidInput, Violation

__all__ = ["dict_to_struct", "struct_to_dict", "to_value", "value_to_plain"]

MAX_DEPTH = 32
MAX_BYTES = 1 << 20
MAX_INTEGER = 2**53 - 1
DEEPER = "[nested deeper than 32 levels]"

_MOST_VIOLATIONS = 50


def struct_to_dict(
    struct: Struct, field: str = "input", *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH
) -> dict[str, Any]:
    """The plain JSON object a Struct carries.

    Args:
        struct: What was received.
        field: Its name; violations are named `input.tone`, `input.items[3].id`.
        max_bytes: Size of the Struct on the wire at most.
        max_depth: Levels at most; the Struct itself is the first.

    Raises:
        InvalidInput: NaN, Infinity, NUL, an integer beyond ±(2^53−1), a Value without content, too deep, too
            large. All of them are named, up to 50.
    """
    size = struct.ByteSize()
    if size > max_bytes:
        raise InvalidInput(f"is {size} bytes, more than {max_bytes}: store large values elsewhere", field=field)
    faults: list[Violation] = []
    plain = _object(struct.fields, field, max_depth - 1, faults)
    if faults:
        raise InvalidInput(faults)
    return plain


def value_to_plain(value: Value, field: str, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The plain JSON value a Value carries; the same rules as `struct_to_dict`."""
    size = value.ByteSize()
    if size > max_bytes:
        raise InvalidInput(f"is {size} bytes, more than {max_bytes}: store large values elsewhere", field=field)
    faults: list[Violation] = []
    plain = _plain(value, field, max_depth, faults)
    if faults:
        raise InvalidInput(faults)
    return plain


def _object(fields: Any, path: str, levels: int, faults: list[Violation]) -> dict[str, Any]:
    plain = {}
    for name, value in fields.items():
        if "\0" in name:
            _fault(faults, path, "has a name with a NUL character: leave it out")
        # The commonest kinds are taken here: a call for every leaf would cost as much as the rest.
        kind = value.WhichOneof("kind")
        if kind == "string_value":
            text = value.string_value
            if "\0" in text:
                _fault(faults, f"{path}.{name}", "has a NUL character: leave it out")
            plain[name] = text
        elif kind == "bool_value":
            plain[name] = value.bool_value
        else:
            plain[name] = _plain(value, f"{path}.{name}", levels, faults)
    return plain


def _plain(value: Value, path: str, levels: int, faults: list[Violation]) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        text = value.string_value
        if "\0" in text:
            _fault(faults, path, "has a NUL character: leave it out")
        return text
    if kind == "number_value":
        return _number(value.number_value, path, faults)
    if kind == "bool_value":
        return value.bool_value
    if kind == "null_value":
        return None
    if kind is None:
        _fault(faults, path, "has no value: give null, a bool, a number, a string, a list or an object")
        return None
    if levels <= 0:
        _fault(faults, path, f"is nested deeper than {MAX_DEPTH} levels: flatten it")
        return None
    if kind == "struct_value":
        return _object(value.struct_value.fields, path, levels - 1, faults)
    return [
        _plain(item, f"{path}[{position}]", levels - 1, faults) for position, item in enumerate(value.list_value.values)
    ]


def _number(number: float, path: str, faults: list[Violation]) -> int | float:
    if number.is_integer():
        integer = int(number)
        if -MAX_INTEGER <= integer <= MAX_INTEGER:
            return integer
        _fault(
            faults,
            path,
            "is an integer beyond ±(2^53−1), which JSON numbers do not carry exactly: give a string",
        )
    elif not math.isfinite(number):
        _fault(faults, path, "is not a finite number: NaN and Infinity are no JSON")
    return number


def _fault(faults: list[Violation], path: str, message: str) -> None:
    if len(faults) < _MOST_VIOLATIONS:
        faults.append(Violation(path, message))


def dict_to_struct(plain: Mapping[str, Any] | None, *, max_depth: int = MAX_DEPTH) -> Struct:
    """A Struct of a plain JSON object, for answers; never fails.

    Integers beyond ±(2^53−1) become strings, so do NaN and Infinity and whatever is no JSON value; what is
    nested deeper than `max_depth` becomes a note; lone surrogates become question marks. None gives an empty
    Struct.
    """
    struct = Struct()
    if plain:
        _fill_object(struct.fields, plain, max_depth - 1)
    return struct


def to_value(plain: Any, *, max_depth: int = MAX_DEPTH) -> Value:
    """A Value of a plain JSON value, for answers; never fails (see `dict_to_struct`). None gives null."""
    value = Value()
    _fill(value, plain, max_depth)
    return value


def _fill_object(fields: Any, plain: Mapping[Any, Any], levels: int) -> None:
    for name, item in plain.items():
        try:
            slot = fields[name]
        except (UnicodeEncodeError, TypeError):
            slot = fields[_clean(str(name))]
        if type(item) is str:
            try:
                slot.string_value = item
            except UnicodeEncodeError:
                slot.string_value = _clean(item)
        else:
            _fill(slot, item, levels)


def _fill(slot: Value, item: Any, levels: int) -> None:
    kind = type(item)
    if kind is int:
        if -MAX_INTEGER <= item <= MAX_INTEGER:
            slot.number_value = item
        else:
            slot.string_value = _digits(item)
    elif kind is bool:
        slot.bool_value = item
    elif item is None:
        slot.null_value = NullValue.NULL_VALUE
    elif kind is float:
        if math.isfinite(item):
            slot.number_value = item
        else:
            slot.string_value = str(item)
    elif isinstance(item, Mapping):
        if levels <= 0:
            slot.string_value = DEEPER
            return
        # An empty object must be shown as one: the field has to be set even when nothing is put into it.
        slot.struct_value.SetInParent()
        _fill_object(slot.struct_value.fields, item, levels - 1)
    elif isinstance(item, list | tuple | set | frozenset):
        if levels <= 0:
            slot.string_value = DEEPER
            return
        values: ListValue = slot.list_value
        values.SetInParent()
        for member in item:
            _fill(values.values.add(), member, levels - 1)
    else:
        slot.string_value = _clean(str(item))


def _digits(integer: int) -> str:
    try:
        return str(integer)
    except ValueError:
        # Python refuses to print more than 4,300 digits in decimal.
        return hex(integer)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
