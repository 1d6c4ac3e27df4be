"""What approvals asks of schedulers on behalf of people who have called a hook; see `wfe_bus.messages`."""

from __future__ import annotations

from wfe_bus.messages import Message


class StartRun(Message, frozen=True):
    """Asked of one scheduler: start a run, on behalf of a principal. Safe to repeat with the same key.

    Attributes:
        owner, principal: UUIDs, 16 bytes each.
        template: UUID of the template, 16 bytes.
        input: JSON of an object.
        trigger: What the run's trigger_type says.
        key: Idempotency key.
        key_hash: Hash of what was asked under it.
        version: Published version; None for the newest.
        traceparent: W3C trace context of the call that asks; empty without one.
    """

    owner: bytes
    principal: bytes
    template: bytes
    input: bytes
    trigger: str
    key: str
    key_hash: bytes
    version: int | None = None
    traceparent: str = ""


class SendSignal(Message, frozen=True):
    """Asked of one scheduler: send a run a signal, on behalf of a principal. Safe to repeat with the same key.

    Attributes:
        owner, principal: UUIDs, 16 bytes each.
        run: UUID of the run, 16 bytes.
        name: Of the signal.
        payload: JSON.
        key: Idempotency key.
        traceparent: As of StartRun.
    """

    owner: bytes
    principal: bytes
    run: bytes
    name: str
    payload: bytes
    key: str
    traceparent: str = ""


class Answered(Message, frozen=True):
    """The answer: the run that was started or signalled, or why none was.

    Attributes:
        run: UUID, 16 bytes; empty when it was refused.
        refusal: Name of the error's class in `wfe_engine.errors`.
        reason, message: Of the error.
        violations: Field and message of each, of an InvalidInput.
    """

    run: bytes = b""
    refusal: str = ""
    reason: str = ""
    message: str = ""
    violations: tuple[tuple[str, str], ...] = ()
