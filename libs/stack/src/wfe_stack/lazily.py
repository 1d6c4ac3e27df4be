"""Modules that are read when they are first used: commands that call no server do not pay for its client."""

from __future__ import annotations

import importlib
from typing import Any


class Lazily:
    """Stands for a module until something of it is asked for.

    Args:
        name: Full name of the module.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(self._name), name)
        setattr(self, name, found)
        return found
