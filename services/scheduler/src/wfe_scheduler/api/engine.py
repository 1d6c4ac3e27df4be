"""What the API asks of the scheduler. Every call that changes something answers after its commit."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol
from uuid import UUID

import msgspec
from wfe_engine.commands import Command
from wfe_servicekit.calls import Caller

from wfe_scheduler.plans import Published


class StartedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was accepted.

    Attributes:
        run_id: UUIDv7 of the run.
        template_id, template_name, template_version: What it is pinned to.
        input: Values of its variables, defaults filled in; sealed ones as placeholders.
        labels: Its labels.
        created_at: When it was accepted, by the run store's clock; Unix seconds.
        created_by: Principal that started it.
        start_at: Moment it is to start at; Unix seconds. None for at once.
    """

    run_id: UUID
    template_id: UUID
    template_name: str
    template_version: int
    input: dict[str, Any]
    labels: dict[str, str]
    created_at: float
    created_by: UUID
    start_at: float | None = None


class StartOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a start may say besides.

    Attributes:
        trigger: What starts it, as the run shows it.
        actor: Of its first events; empty for the caller.
        reason: Why, for its first events.
        start_at, delay: Not before this moment (Unix seconds), and not before so many seconds are over.
        signal: Name and JSON bytes of what it is told at its start.
    """

    trigger: str = "api"
    actor: str = ""
    reason: str = ""
    start_at: float | None = None
    delay: float | None = None
    signal: tuple[str, bytes] | None = None

    def moment(self, now: float) -> float | None:
        """Moment a run that is accepted now is to start at, to the microsecond; None for at once."""
        moments = [self.start_at, None if self.delay is None else now + self.delay]
        later = max((round(moment, 6) for moment in moments if moment is not None), default=now)
        return later if later > now else None


class Nudges(Protocol):
    """Says when a run may have changed.

    Attributes:
        ended: Whether the run's end was seen meanwhile.
    """

    ended: bool

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bound on waiting is its purpose
        """Until something may be new, at most `timeout` seconds; False when the time ran out first.

        May answer True with nothing new: nudges can be lost, so it does every second or two.
        """
        ...


class Engine(Protocol):
    """The scheduler as the API sees it. Every call is scoped to the caller's owner."""

    async def start(
        self,
        caller: Caller,
        template_id: UUID,
        version: int | None,
        input: dict[str, Any] | bytes,  # noqa: A002 - the contract's word; JSON bytes when it is large
        labels: dict[str, str],
        idempotency_key: str | None,
        body_hash: bytes,
        options: StartOptions = StartOptions(),  # noqa: B008 - frozen
    ) -> StartedRun:
        """Start a run of a published template; the newest version when none is named.

        Raises:
            InvalidInput: The input does not fit the template's variables; names every violation.
            NotFound, StateConflict: About the template.
            AlreadyExists: The key was used with another body.
        """
        ...

    async def published(self, owner_id: UUID, template_id: UUID, version: int | None) -> Published:
        """The version of a template that a start would take.

        Raises:
            NotFound, StateConflict: About the template.
        """
        ...

    async def command(self, caller: Caller, run_id: UUID, command: Command, reason: str) -> None:
        """Do something to a run.

        Raises:
            NotFound: The owner has no such run.
            StateConflict: Its state does not allow it.
        """
        ...

    async def rollback(self, caller: Caller, run_id: UUID, snapshot_id: UUID, reason: str) -> None:
        """Go back to a snapshot.

        Raises:
            NotFound: The owner has no such run, or it no such snapshot.
            StateConflict: Its state, or the snapshot's, does not allow it.
        """
        ...

    async def fork(
        self,
        caller: Caller,
        run_id: UUID,
        snapshot_id: UUID,
        labels: dict[str, str] | None,
        reason: str,
        idempotency_key: str | None,
        body_hash: bytes,
    ) -> StartedRun:
        """Start a run at a snapshot of another; with that run's labels when `labels` is None.

        Raises:
            NotFound, StateConflict: As for `rollback`.
            AlreadyExists: The key was used with another body.
        """
        ...

    async def rerun(
        self,
        caller: Caller,
        run_id: UUID,
        from_step: str,
        labels: dict[str, str] | None,
        reason: str,
        idempotency_key: str | None,
        body_hash: bytes,
    ) -> StartedRun:
        """Start a run that begins at a step of another, with what that step does not need taken over.

        Raises:
            NotFound: The owner has no such run, or its template no such step.
            AlreadyExists: The key was used with another body.
        """
        ...

    async def snapshot(self, caller: Caller, run_id: UUID, name: str, reason: str) -> UUID:
        """Keep the state as it is now; gives the snapshot's id.

        Raises:
            NotFound: The owner has no such run.
        """
        ...

    async def signal(
        self, caller: Caller, run_id: UUID, name: str, payload: bytes, reason: str, idempotency_key: str | None
    ) -> None:
        """Tell a run something.

        Raises:
            NotFound: The owner has no such run.
            StateConflict: It has ended.
            ResourceExhausted: Too many signals wait in it to be taken.
        """
        ...

    async def answer(self, run_id: UUID, command: Command) -> None:
        """Let a run have the answer to a callback of it, whoever gives it.

        Raises:
            NotFound: There is no such run.
            StateConflict: It was answered already, nothing waits for a sign of life yet, or the run has ended.
        """
        ...

    def watch(self, run_id: UUID, *, ends: bool = False) -> AbstractContextManager[Nudges]:
        """Nudges for a run while the block lasts, only for its end with `ends`.

        Does not look whether there is such a run.
        """
        ...

    def goes_on(self, owner_id: UUID, run_id: UUID) -> bool:
        """Whether a run of the owner is known here as one that has not ended; False when the store must be asked."""
        ...

    async def template_changed(self, template_id: UUID) -> None:
        """Tell every scheduler that a template was published or deprecated."""
        ...

    async def readiness(self) -> dict[str, str]:
        """Part by part: ok, or what is wrong."""
        ...

    async def handlers(self) -> frozenset[str] | None:
        """Names of the handlers that live executors know; None when no executor is live."""
        ...
