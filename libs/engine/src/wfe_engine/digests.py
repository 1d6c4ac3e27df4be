"""The digest an approval is bound to: of exactly what will run, and of nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec


def approval_digest(run: str, path: str, iteration: str, kind: str, payload: Any) -> str:
    """SHA-256, hex, over the canonical JSON of a step's key, its kind, and what it is asked to do.

    The run stands for its owner and its template's version. Titles and texts are left out.

    Args:
        run: UUID, as text.
        path, iteration: Of the step that will run; of the gate, when it guards no step in particular.
        payload: The request of that step, or the gate's payload; sealed values as placeholders.
    """
    data = msgspec.json.encode(["approval", run, path, iteration, kind, payload], order="sorted")
    return hashlib.sha256(data).hexdigest()
