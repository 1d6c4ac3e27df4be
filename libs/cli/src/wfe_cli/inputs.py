"""The input of a run, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wfe_cli.faults import UsageFault

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "integer": ((int,), "an integer"),
    "number": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
    "array": ((list,), "a JSON array"),
    "object": ((dict,), "a JSON object"),
}


def pairs(given: Iterable[str], what: str) -> dict[str, str]:
    """Texts by name, from name=text.

    Raises:
        UsageFault: One has no equals sign, or no name.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageFault(f"{what} {text!r} is not name=value")
        found[name] = value
    return found


def read_object(text: str, what: str) -> dict[str, Any]:
    """An object from JSON text.

    Raises:
        UsageFault: It is not one.
    """
    try:
        value = json.loads(text)
    except ValueError as fault:
        raise UsageFault(f"{what} is not JSON: {fault}") from fault
    if not isinstance(value, dict):
        raise UsageFault(f"{what} is not a JSON object")
    return value


def read_file(path: Path) -> dict[str, Any]:
    """An object from a JSON or YAML file.

    Raises:
        UsageFault: It cannot be read, or holds something else.
    """
    text = read_text(path)
    if path.suffix not in {".yaml", ".yml"}:
        return read_object(text, str(path))
    value, fault = _loaded(text)
    if fault:
        raise UsageFault(f"{path} cannot be used: {fault}")
    if not isinstance(value, dict):
        raise UsageFault(f"{path} does not hold names and values")
    return value


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        UsageFault: It cannot be read.
    """
    try:
        return path.read_text()
    except OSError as fault:
        raise UsageFault(f"{path} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise UsageFault(f"{path} is not UTF-8 text") from fault


def variable_types(source: str) -> dict[str, str]:
    """The declared types of a template's variables; empty when its source cannot be read."""
    variables = document(source).get("variables")
    if not isinstance(variables, dict):
        return {}
    return {
        name: str(each.get("type", "string")) if isinstance(each, dict) else str(each)
        for name, each in variables.items()
    }


def document(source: str) -> dict[str, Any]:
    """A template source as plain values; empty when it is none, for the server will say so."""
    value, _ = _loaded(source)
    return value if isinstance(value, dict) else {}


def _loaded(text: str) -> tuple[Any, str]:
    """A YAML document as the language reads it, and the first thing that is wrong with it."""
    # Imported here: it brings the language, which most commands do without.
    from wfe_language import TemplateFaults, load

    try:
        return load(text)[0], ""
    except TemplateFaults as faults:
        fault = faults.faults[0]
        return None, " ".join(f"line {fault.line}: {fault.reason} {fault.mend}".split())


def typed(given: dict[str, str], types: dict[str, str]) -> dict[str, Any]:
    """Values of the types the template declares; a text stays a text, everything else is JSON.

    A variable the template does not declare is left as text: the server says what is wrong with it.

    Raises:
        UsageFault: A text is not of its variable's type.
    """
    return {name: _typed(name, text, types.get(name, "string")) for name, text in given.items()}


def _typed(name: str, text: str, kind: str) -> Any:
    if kind not in _KINDS:
        return text
    wanted, words = _KINDS[kind]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "boolean"):
        raise UsageFault(f"input {name}: {text!r} is not {words}")
    return value
