"""JSON Schema of variables: which words it may use, and validators that are made once."""

from __future__ import annotations

import functools
from typing import Any

import jsonschema_rs
import msgspec

#: Formats that are asserted.
FORMATS = (
    "uri", "uri-reference", "iri", "email", "idn-email", "date", "time", "date-time", "duration", "uuid",
    "hostname", "ipv4", "ipv6", "regex", "json-pointer",
)  # fmt: skip
TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
#: Words of JSON Schema a declaration may use at its top.
KEYWORDS = (
    "type", "format", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minLength", "maxLength", "pattern", "items", "minItems", "maxItems", "uniqueItems",
    "properties", "additionalProperties", "minProperties", "maxProperties", "examples",
)  # fmt: skip


class _Remote:
    """Refuses references to other documents: validation makes no requests and reads no files."""

    def __call__(self, uri: str) -> Any:
        raise ValueError(f"references to other documents are not followed: {uri[:100]}")


def make_validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """A validator that asserts formats, follows no outside references and matches patterns in linear time.

    Raises:
        ValueError: It is not a JSON Schema, or refers to another document.
    """
    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            validate_formats=True,
            ignore_unknown_formats=True,
            retriever=_Remote(),
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20),
        )
    except jsonschema_rs.ValidationError as error:
        raise ValueError(error.message[:300]) from None
    except jsonschema_rs.ReferencingError as error:
        raise ValueError(str(error)[:300]) from None


@functools.lru_cache(maxsize=2048)
def _cached(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    return make_validator(msgspec.json.decode(schema))


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """The validator of a schema, made once for equal ones."""
    return _cached(msgspec.json.encode(schema))
