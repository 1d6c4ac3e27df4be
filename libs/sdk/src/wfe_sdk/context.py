"""What a handler knows about the attempt it is running in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class StepContext:
    """The attempt a handler runs in; its second argument, if it takes one.

    Attributes:
        run_id: UUID of the run, as text.
        step: Path of the step in the template, e.g. "publish" or "each.upload".
        iteration: Which element of a foreach or pass of a loop, e.g. "3" or "3.0"; empty outside of them.
        visit: 1 the first time the step is entered; rises when a loop or a retry of the run enters it again.
        attempt: 1 for the first attempt.
        max_attempts: How many attempts there may be.
        idempotency_key: The same over all attempts of the step. Pass it to other systems, so that a repeated
            attempt does not do its outside effect twice.
        owner: UUID of the owner of the run, as text.
        deadline: Moment (Unix time in seconds, this machine's clock) at which the attempt is stopped; None
            when it may take for ever.
        cancelled: True once the attempt was told to stop. Async handlers also get asyncio.CancelledError; a
            sync handler that looks here may return within 0.2 seconds, after that its process is killed. What
            a cancelled handler returns is dropped.
    """

    __slots__ = (
        "_beat", "attempt", "cancelled", "deadline", "idempotency_key", "iteration", "max_attempts", "owner",
        "run_id", "step", "visit",
    )  # fmt: skip

    def __init__(
        self,
        *,
        run_id: str,
        step: str,
        idempotency_key: str,
        attempt: int = 1,
        max_attempts: int = 1,
        iteration: str = "",
        visit: int = 1,
        owner: str = "",
        deadline: float | None = None,
        beat: Callable[[Any], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self.step = step
        self.iteration = iteration
        self.visit = visit
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.idempotency_key = idempotency_key
        self.owner = owner
        self.deadline = deadline
        self.cancelled = False
        self._beat = beat

    def heartbeat(self, progress: Any = None) -> None:
        """Say that the handler is alive, for a step with a heartbeat timeout; cheap, call it in every loop.

        Args:
            progress: A small JSON value (at most 16 KiB) shown with the step; the last one counts and None
                leaves what was said before. One that is not JSON is dropped, and the executor's log says so.
        """
        if self._beat is not None:
            self._beat(progress)

    def remaining(self) -> float | None:
        """Seconds until the deadline, never below 0; None when there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.time())
