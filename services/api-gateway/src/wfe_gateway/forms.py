"""Small forms that occur all over an Envoy configuration."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from wfe_gateway.config import Address, Pipe

__all__ = ["address", "inline_or_file", "typed"]


def typed(name: str, **fields: Any) -> dict[str, Any]:
    """The message `name` as google.protobuf.Any has it in JSON."""
    return {"@type": f"type.googleapis.com/{name}", **fields}


def address(where: Address | Pipe) -> dict[str, Any]:
    """envoy.config.core.v3.Address."""
    if isinstance(where, Pipe):
        return {"pipe": {"path": where.path, "mode": 0o600}}
    return {"socket_address": {"address": where.host, "port_value": where.port}}


def inline_or_file(path: Path, *, inline: bool) -> dict[str, Any]:
    """envoy.config.core.v3.DataSource of a file: its name, or its bytes."""
    if inline:
        return {"inline_bytes": base64.b64encode(path.read_bytes()).decode()}
    return {"filename": str(path)}
