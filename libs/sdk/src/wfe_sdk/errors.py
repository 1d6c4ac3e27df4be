"""What a handler raises to say what should happen next.

HandlerError
├── TerminalError    another attempt cannot help: the step fails now
└── RetryableError   try again, as the step's retry policy says

Any other exception counts as retryable, with the code HANDLER_ERROR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NOT_CODE = re.compile(r"[^A-Z0-9]+")
_CODE_CHARS = 64


class HandlerError(Exception):
    """Base of the two errors a handler raises on purpose; raise one of its children.

    Attributes:
        code: Upper snake case, at most 64 characters; templates match on it. Other spellings are brought into
            this form, so that a bad code never hides the error itself.
        message: One sentence for people. It is recorded and shown: no secrets.
        details: Small JSON-ready facts.
    """

    retryable = True

    def __init__(self, code: str, message: str = "", *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(code, message)
        self.code = _NOT_CODE.sub("_", str(code).upper()).strip("_")[:_CODE_CHARS] or "HANDLER_ERROR"
        self.message = str(message)
        self.details = dict(details or {})

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class TerminalError(HandlerError):
    """Another attempt cannot help: the step fails now, whatever attempts are left.

    Args:
        code: Upper snake case, e.g. CARD_DECLINED.
        message: One sentence for people; no secrets.
        details: Small JSON-ready facts.
    """

    retryable = False


class RetryableError(HandlerError):
    """Try again, if attempts are left.

    Args:
        code: Upper snake case, e.g. RATE_LIMITED.
        message: One sentence for people; no secrets.
        retry_after: Seconds to wait at least before the next attempt; None leaves it to the retry policy.
        details: Small JSON-ready facts.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, message, details=details)
        self.retry_after = retry_after
