"""Refuses what only the engine may write into a document."""

from __future__ import annotations

from typing import Any

from wfe_engine.values import SEALED

from wfe_language.compiler.reading import Reading
from wfe_language.faults import Where

#: How keys begin that only the engine writes: placeholders of sealed values, references to large ones.
RESERVED = (SEALED, "$blob")


def refuse_reserved(reading: Reading, document: Any) -> None:
    """Faults for keys that begin like what stands for sealed and large values: one could pass for it."""
    waiting: list[tuple[Any, Where]] = [(document, ())]
    while waiting:
        value, where = waiting.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                if isinstance(key, str) and key.startswith(RESERVED):
                    reading.key_fault((*where, key), f"The key {key[:60]} belongs to the engine.", "Rename it.")
                else:
                    waiting.append((item, (*where, key)))
        elif isinstance(value, list):
            waiting += [(item, (*where, at)) for at, item in enumerate(value)]


def reserved_key_in(value: Any) -> str | None:
    """A key of the engine's somewhere in a JSON value; None without one."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            for key, item in inner.items():
                if isinstance(key, str) and key.startswith(RESERVED):
                    return key
                waiting.append(item)
        elif isinstance(inner, list):
            waiting += inner
    return None
