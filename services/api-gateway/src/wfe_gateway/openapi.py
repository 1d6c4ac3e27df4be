"""Where the OpenAPI document is. tools/openapi.py makes it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["document_file"]


def document_file() -> Path:
    """The OpenAPI document of the REST API, JSON."""
    return Path(__file__).with_name("openapi.json").resolve()
