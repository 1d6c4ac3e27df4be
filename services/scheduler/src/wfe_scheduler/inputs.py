"""What a run is started with, against the variables of its template."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from wfe_engine.errors import InvalidInput, Violation
from wfe_engine.plan import Variable
from wfe_language import check_input


async def checked(variables: Sequence[Variable], given: dict[str, Any] | bytes) -> dict[str, Any]:
    """Values of all variables.

    Args:
        given: Values by name; JSON bytes of them when they are large, which are checked while other calls go on.

    Raises:
        InvalidInput: With every violation.
    """
    if isinstance(given, bytes):
        values, violations = await asyncio.to_thread(_check_large, variables, given)
    else:
        values, violations = check_input(variables, given)
    if violations:
        raise InvalidInput(violations, reason="INVALID_RUN_INPUT")
    return values


def _check_large(variables: Sequence[Variable], data: bytes) -> tuple[dict[str, Any], tuple[Violation, ...]]:
    return check_input(variables, msgspec.json.decode(data))
