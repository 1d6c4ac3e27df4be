"""Bad values for every type of field, as they are written in a JSON body and in a query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

BEYOND = 2**53 + 1
#: Statuses of values that are large or small, and nothing else: they may be taken, and must not hurt.
TAKEN_OR_REFUSED = (200, 201, *range(400, 500))


class Bad(NamedTuple):
    """One bad value of a field.

    Attributes:
        what: Says what is bad, for the report.
        text: As JSON, or as it stands in a query.
        statuses: What it may be answered with; any from 400 to 499 when empty.
    """

    what: str
    text: bytes
    statuses: tuple[int, ...] = (400,)


def nested(levels: int, inside: str = "1") -> str:
    """An object in an object in an object."""
    return '{"a":' * levels + inside + "}" * levels


_OBJECTS = (
    Bad("200 levels", nested(200).encode()),
    Bad("33 levels", nested(33).encode()),
    Bad("200 levels of lists", b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"),
    Bad("2^53+1", f'{{"a": {BEYOND}}}'.encode()),
    Bad("-2^53-1", f'{{"a": [-{BEYOND}]}}'.encode()),
    Bad("1e999", b'{"a": 1e999}'),
    Bad("NaN", b'{"a": NaN}'),
    Bad("NUL in a text", b'{"a": "x\\u0000y"}'),
    Bad("NUL in a name", b'{"a\\u0000b": 1}'),
    Bad("a raw NUL", b'{"a": "x\x00y"}'),
    Bad("bad UTF-8", b'{"a": "\xff\xfe"}'),
    Bad("half a surrogate pair", b'{"a": "\\ud800"}'),
)


def in_body(field: FieldDescriptor) -> Iterator[Bad]:
    """Bad values of a field of a JSON body."""
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct":
        yield from (Bad(f"{text} for an object", text.encode()) for text in ("5", "true", '"x"', "[]", "[{}]"))
        yield from _OBJECTS
        return
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Value":
        yield from _OBJECTS
        return
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
        texts = ("{}", "[]", "5", "true", '"yesterday"', '"2026-13-01T00:00:00Z"', '"2026-01-01"', '"\\u0000"')
        yield from (Bad(f"{text} for a moment", text.encode()) for text in texts)
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        yield from (Bad(f"{text} for a map", text.encode()) for text in ("5", "true", '"x"', "[]"))
        yield from (Bad(f"{text} in a map", f'{{"a": {text}}}'.encode()) for text in ("5", "{}", "[]"))
        many = json.dumps({f"name-{n}": "x" for n in range(5_000)})
        yield Bad("5,000 entries", many.encode())
        yield Bad("a long name", json.dumps({"a" * 10_000: "x"}).encode())
        yield from (bad for bad in _OBJECTS if b"\\u" in bad.text or b"\x00" in bad.text or b"\xff" in bad.text)
        return
    if field.message_type is not None and field.is_repeated:
        yield from (
            Bad(f"{text} for a list of objects", text.encode()) for text in ("5", "true", '"x"', "[5]", '["x"]')
        )
        yield from (Bad(f"{text} in a list", f"[{text}]".encode()) for text in ("{}", '{"bogus": 1}', '{"path": 5}'))
        yield Bad("5,000 entries", json.dumps([{}] * 5_000).encode())
        return
    if field.message_type is not None and field.message_type.full_name == "wfe.api.v1.StartSignal":
        yield from (Bad(f"{text} for a signal", text.encode()) for text in ("5", "true", '"x"', "[]", "{}"))
        yield from (Bad(f"{name} for its name", f'{{"name": {name}}}'.encode()) for name in ('""', '"a b"', '"1"', "5"))
        yield Bad("a NUL in its payload", b'{"name": "go", "payload": "\\u0000"}')
        return
    assert field.message_type is None, f"say what bad values of {field.full_name} are"
    if field.is_repeated:
        yield from (Bad(f"{text} for a list", text.encode()) for text in ("5", "true", '"x"', "{}"))
        # The gateway reads a list in a list as one list, which does no harm.
        scalars = (bad for bad in _scalars(field) if bad.text not in (b"[]", b"[[]]"))
        yield from (Bad(f"[{bad.what}]", b"[" + bad.text + b"]", bad.statuses) for bad in scalars)
        yield Bad("5,000 entries", json.dumps(["x"] * 5_000).encode())
        return
    yield from _scalars(field)


def _scalars(field: FieldDescriptor) -> Iterator[Bad]:
    yield from (Bad(f"{text} for a scalar", text.encode()) for text in ("{}", "[]", "[[]]", '{"a": 1}'))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        yield from (Bad(f"{text} for a text", text.encode()) for text in ("5", "true", "1.5"))
        yield Bad("NUL", b'"a\\u0000b"')
        yield Bad("a raw NUL", b'"a\x00b"')
        yield Bad("bad UTF-8", b'"\xff\xfe"')
        yield Bad("half a surrogate pair", b'"\\ud800"')
        yield Bad("300,000 characters", b'"' + b"a" * 300_000 + b'"')
        yield Bad("a text without its end", b'"abc')
    elif field.cpp_type == FieldDescriptor.CPPTYPE_INT32:
        yield from (Bad(f"{text} for an integer", text.encode()) for text in ('"x"', "1.5", "true", '""', "NaN"))
        yield from (Bad(f"{n} for an int32", str(n).encode()) for n in (2**31, -(2**31) - 1, BEYOND, 2**64))
        yield from (Bad(text, text.encode()) for text in ("-1", "-2147483648", "1e400"))
        yield Bad("2^31-1", str(2**31 - 1).encode(), TAKEN_OR_REFUSED)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_INT64:
        yield from (Bad(f"{text} for an integer", text.encode()) for text in ('"x"', "1.5", "true", '""', "NaN"))
        yield from (Bad(str(n), str(n).encode()) for n in (-1, -(2**63), 2**63, 2**64, 2**63 - 1))
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        yield from (Bad(f"{text} for a truth", text.encode()) for text in ('"x"', "5", "1.5", "NaN", "tru"))
    else:
        raise AssertionError(f"say what bad values of {field.full_name} are")


def in_query(field: FieldDescriptor) -> Iterator[Bad]:
    """Bad values of a field in a query."""
    if field.message_type is not None:
        assert field.message_type.full_name == "google.protobuf.Timestamp", field.full_name
        yield from (
            Bad(text, text.encode()) for text in ("yesterday", "2026-13-01T00:00:00Z", "5", "2026-01-01", "%00", "%ff")
        )
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        yield from (Bad(text, text.encode()) for text in ("a%00b", "%ff%fe", "%ed%a0%80", "a" * 10_000))
        # An escape that is none is read as the three characters it is.
        yield Bad("%zz", b"%zz", TAKEN_OR_REFUSED)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        yield from (Bad(text, text.encode()) for text in ("maybe", "2", "%00"))
    elif field.cpp_type == FieldDescriptor.CPPTYPE_INT32:
        numbers = ("abc", "1.5", "-1", "-2147483648", "2147483648", str(BEYOND), "9" * 400, "%00", "1%002", "0x10")
        yield from (Bad(text, text.encode()) for text in numbers)
        yield Bad("2147483647", b"2147483647", TAKEN_OR_REFUSED)
    else:
        raise AssertionError(f"say what bad values of {field.full_name} are")


def in_path(field: FieldDescriptor) -> Iterator[Bad]:
    """Bad values of a field in a path."""
    # Some of these are names as good as any.
    any_4xx: tuple[int, ...] = TAKEN_OR_REFUSED if field.name == "name" else ()
    texts: list[Any] = ["nope", "%20", "a%00b", "%ff%fe", "a%2fb", "a%5cb", "%zz", "a;b", "*", "{id}", "ü", "%C3%BC"]
    texts += ["a" * 5_000, "-1", "01a20ef8-878a-7c72-a52b-3999179a752", "01a20ef8878a7c72a52b3999179a752f", "null"]
    texts += ["...", "%252e%252e"]
    yield from (Bad(text, text.encode(), any_4xx) for text in texts)
    # Spellings of "here" and "above", which would make a call another one.
    dots = (".", "..", "%2e%2e", ".%2E", "..;", "..;x=1", "%2e;", "..%3b", "../x/..", "./..")
    yield from (Bad(text, text.encode()) for text in dots)
    if field.cpp_type == FieldDescriptor.CPPTYPE_INT32:
        yield from (Bad(text, text.encode(), any_4xx) for text in ("1.5", "0", "2147483648", "9" * 400, str(BEYOND)))
