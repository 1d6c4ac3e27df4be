"""What can be wrong with a call, as one tree.

WfeError
├── InvalidInput         400 INVALID_ARGUMENT     every violation named
├── Unauthenticated      401 UNAUTHENTICATED
├── PermissionDenied     403 PERMISSION_DENIED
├── NotFound             404 NOT_FOUND            also what belongs to another owner
├── StateConflict        409 FAILED_PRECONDITION  the state does not allow it
├── AlreadyExists        409 ALREADY_EXISTS       a name taken, a key used with another body
├── ResourceExhausted    429 RESOURCE_EXHAUSTED   a limit; says when to try again
└── Unavailable          503 UNAVAILABLE          a part is down; safe to try again

Each has a `reason` (upper snake case, stable, for programs), a message (one sentence, for people) and `metadata`
that repeats every variable word of the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong in an input.

    Attributes:
        field: Where, as a path: `input.tone`, `steps[2].retry`.
        message: What is wrong and what would mend it.
    """

    field: str
    message: str


class WfeError(Exception):
    """Base of everything a caller can be told."""

    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, reason: str = "", **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = {name: str(value) for name, value in metadata.items()}


class InvalidInput(WfeError):
    """The input is wrong; `violations` has everything that is."""

    default_reason = "INVALID_INPUT"

    def __init__(
        self, violations: Sequence[Violation] | str, *, field: str = "", reason: str = "", **metadata: object
    ) -> None:
        if isinstance(violations, str):
            violations = (Violation(field, violations),)
        self.violations = tuple(violations)
        text = "; ".join(f"{v.field}: {v.message}" if v.field else v.message for v in self.violations[:10])
        if len(self.violations) > 10:
            text += f"; and {len(self.violations) - 10} more"
        super().__init__(text, reason=reason, **metadata)


class Unauthenticated(WfeError):
    """No credentials, or credentials nobody knows."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(WfeError):
    """The caller is known and may not do this."""

    default_reason = "PERMISSION_DENIED"


class NotFound(WfeError):
    """No such thing for this caller; the same for a missing thing and for another owner's."""

    default_reason = "NOT_FOUND"


class StateConflict(WfeError):
    """The thing exists, and its state does not allow this."""

    default_reason = "STATE_CONFLICT"


class AlreadyExists(WfeError):
    """The name or key is taken."""

    default_reason = "ALREADY_EXISTS"


class ResourceExhausted(WfeError):
    """A limit is reached.

    Attributes:
        retry_after: Seconds after which it may work.
    """

    default_reason = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, *, retry_after: float = 1.0, reason: str = "", **metadata: object) -> None:
        super().__init__(message, reason=reason, **metadata)
        self.retry_after = retry_after


class Unavailable(WfeError):
    """A part the call needs is down; nothing was changed, or the call is safe to repeat."""

    default_reason = "UNAVAILABLE"
