"""Sealed values: put into a request in memory, taken out of everything that leaves."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from wfe_bus.messages import SEALED, Failure

from wfe_executor.outputs import StepFailed, failure

#: What stands where a sealed value was.
REDACTED = "[redacted]"

#: Shorter values would tear harmless text apart.
REDACTED_CHARS = 4
#: Likewise for parts of Base64.
BASE64_CHARS = 8


def unsealed(value: Any, values: Mapping[str, Any]) -> Any:
    """The request with every placeholder replaced; the value given is not changed.

    A placeholder is {"$sealed": parts}, parts being texts, {"var": name}, {"secret": name} and
    {"callback": key}. One alone stands
    for the value with its type; several parts are joined to a text, with values that are no text written as JSON.

    Args:
        value: The request.
        values: By "var" or "secret" and name; see `key_of`.

    Raises:
        StepFailed: SEALED_INVALID, for a placeholder of another shape or a name without a value.
    """
    if isinstance(value, dict):
        if SEALED in value:
            return _joined(value, values)
        return {key: unsealed(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [unsealed(item, values) for item in value]
    return value


def _joined(placeholder: dict[str, Any], values: Mapping[str, Any]) -> Any:
    parts = placeholder[SEALED]
    if len(placeholder) != 1 or not isinstance(parts, list) or not parts:
        raise _invalid("a sealed placeholder has an unknown shape")
    if len(parts) == 1 and isinstance(parts[0], dict):
        return _value(parts[0], values)
    return "".join(part if isinstance(part, str) else _text(_value(part, values)) for part in parts)


def _value(part: Any, values: Mapping[str, Any]) -> Any:
    kind, name = next(iter(part.items())) if isinstance(part, dict) and len(part) == 1 else ("", None)
    if kind not in ("var", "secret", "callback") or not isinstance(name, str):
        raise _invalid("a sealed placeholder has an unknown shape")
    key = key_of(kind, name)
    if key not in values:
        raise _invalid(f"the sealed value {name[:200]!r} is no longer there")
    return values[key]


def key_of(kind: str, name: str) -> str:
    """Key of a sealed value: variables by their names, others by theirs behind a dot."""
    return name if kind == "var" else f"{kind}s.{name}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _invalid(message: str) -> StepFailed:
    return StepFailed(failure("SEALED_INVALID", message, retryable=False))


class Redactor:
    """Replaces exact occurrences of sealed texts of at least 4 characters by "[redacted]".

    Also where they were written into a URL, into JSON or into Base64. Texts inside of sealed objects and arrays
    count too; numbers do not.

    Args:
        values: The unsealed values by name.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._texts: list[str] = []
        self.add(*_texts(list(values.values())))

    def add(self, *texts: str) -> None:
        """Take these out as well, e.g. what was made from a sealed value."""
        found = set(self._texts)
        for text in texts:
            if len(text) >= REDACTED_CHARS:
                found |= {text, quote(text), quote(text, safe=""), quote_plus(text)}
                found |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
                found |= _base64_of(text)
        # The longest first, or a value that begins like another would leave the rest of it behind.
        self._texts = sorted(found, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without sealed values."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, REDACTED)
        return text

    def value(self, value: Any) -> Any:
        """The JSON value without sealed values, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def failure(self, why: Failure) -> Failure:
        """The failure without sealed values."""
        return failure(
            self.text(why.code),
            self.text(why.message),
            retryable=why.retryable,
            retry_after=why.retry_after,
            details=self.value(why.details),
        )


def _base64_of(text: str) -> set[str]:
    """What the text looks like in the middle of something that was written in Base64, wherever it stood in it."""
    data = text.encode("utf-8", "replace")
    found: set[str] = set()
    for before in range(3):
        written = base64.b64encode(b"\0" * before + data).decode()
        core = written[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        if len(core) >= BASE64_CHARS:
            found |= {core, core.replace("+", "-").replace("/", "_")}
    return found


def _texts(values: list[Any]) -> list[str]:
    texts: list[str] = []
    while values:
        value = values.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
    return texts
