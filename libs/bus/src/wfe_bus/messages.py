"""What executors and schedulers say to each other over NATS.

Messages are msgspec structs in MessagePack. Structs are maps on the wire and every field has a default or is
required from the first version on, so a side that is one version behind still understands the other.
Times are seconds; moments are Unix time by the run store's clock; spans are plain seconds.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

#: The one key of a sealed placeholder in a request.
SEALED = "$sealed"

#: The largest output a step may give; one that gives more has failed with OUTPUT_TOO_LARGE.
OUTPUT_BYTES = 16 * 1024 * 1024
#: The largest output a report carries; a larger one is stored first, part by part.
REPORT_BYTES = 256 * 1024
#: Length of a part; the last may be shorter.
PART_BYTES = 512 * 1024


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every message."""


class LeaseRef(Message, frozen=True):
    """Names one lease: a step of a run, and the fence it was leased under.

    Attributes:
        run: UUID of the run, 16 bytes.
        no: Number of the step within its run.
        fence: Rises with every lease of the step; a report under an older fence changes nothing.
    """

    run: bytes
    no: int
    fence: int


class Claim(Message, frozen=True):
    """An executor offers room for steps. Sent at start, when room grows without a report, and with heartbeats.

    Attributes:
        executor: Id of the executor process, new at every start.
        queues: Queues it serves.
        generation: Rises with every claim of the executor; an older one is ignored.
        room: How many more steps it can take now, in all; replaces what the scheduler believed before.
    """

    executor: str
    queues: tuple[str, ...]
    generation: int
    room: int


class Lease(Message, frozen=True):
    """One step handed to an executor.

    Attributes:
        run, no, fence: See LeaseRef.
        path, iteration, visit: The step's key, for logs and for the handler's context.
        kind: http, call, …: which runner of the executor takes it.
        request: JSON bytes: the step's parameters with every expression evaluated. Sealed values are
            placeholders, see `sealed`. None when it is too large to travel: then ask FetchInput.
        attempt: 1 for the first.
        max_attempts: How many there may be.
        idempotency_key: The same over all attempts of the step.
        attempt_timeout: Seconds this attempt may take; None without limit.
        heartbeat_timeout: Seconds the handler may be silent; None when it need not say anything.
        total_deadline: Moment after which no attempt starts, as of the lease; None without. Attempts under way are
            ended by the schedulers.
        sealed: Whether the request holds sealed placeholders, to be resolved by Unseal before the start. A
            placeholder is a JSON object with the one key SEALED, whose value is a list of parts: strings as they
            are, {"var": name} for a sealed variable, {"secret": name} for a secret and {"callback": key} for
            the URL of a callback. One of them alone stands for the value with its type; several parts are
            joined to a string.
        traceparent: W3C trace context of the run; empty without tracing.
        owner: UUID of the owner, as text.
        approval: UUID of the approval it runs under, as text; empty for a step that needs none.
        digest: Of exactly what was approved (`wfe_engine.digests`); the executor refuses to run anything else.
    """

    run: bytes
    no: int
    fence: int
    path: str
    kind: str
    request: bytes | None
    attempt: int
    max_attempts: int
    idempotency_key: str
    iteration: str = ""
    visit: int = 1
    attempt_timeout: float | None = None
    heartbeat_timeout: float | None = None
    total_deadline: float | None = None
    sealed: bool = False
    traceparent: str = ""
    owner: str = ""
    approval: str = ""
    digest: str = ""


class Leases(Message, frozen=True):
    """Steps for an executor, and where to report them.

    Attributes:
        scheduler: Id of the scheduler that leased them; reports go to it while it lives.
        leases: As many as fit a NATS message; the rest comes in another.
        now: The run store's clock when they were leased.
    """

    scheduler: str
    leases: tuple[Lease, ...]
    now: float


class Failure(Message, frozen=True):
    """Why an attempt failed.

    Attributes:
        code: Upper snake case, e.g. HTTP_503, ATTEMPT_TIMEOUT, HANDLER_ERROR.
        message: One sentence, at most 4 KiB, free of sealed values.
        retryable: False when another attempt cannot help.
        retry_after: Seconds the other side asked to wait; None when it did not say.
        details: Small JSON-ready facts, e.g. {"status": 503}.
    """

    code: str
    message: str
    retryable: bool = True
    retry_after: float | None = None
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class StoredOutput(Message, frozen=True):
    """An output that was stored before its report: UUID of the blob, 16 bytes, and the length of the JSON."""

    blob: bytes
    size: int


class Outcome(Message, frozen=True):
    """How one attempt ended. Exactly one of output, stored and failure is set, unless it was released.

    Attributes:
        run, no, fence: See LeaseRef.
        output: JSON bytes of the result, at most REPORT_BYTES.
        stored: Where the result is, when it is larger.
        failure: Why it failed.
        released: The executor gives the step back unrun (it is stopping); no attempt is counted.
        started_at: When the attempt began.
    """

    run: bytes
    no: int
    fence: int
    output: bytes | None = None
    stored: StoredOutput | None = None
    failure: Failure | None = None
    released: bool = False
    started_at: float = 0.0


class Report(Message, frozen=True):
    """Outcomes of an executor; carries the next claim with it.

    Attributes:
        executor: Id of the executor process.
        queues: Queues it serves.
        outcomes: What ended.
        room: How many more steps it can take because of these outcomes, to be added to what it had claimed.
    """

    executor: str
    queues: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    room: int = 0


class Reported(Message, frozen=True):
    """Answer to Report, after the commit.

    Attributes:
        stale: Outcomes refused because their lease is no longer held; nothing was changed by them.
        leases: The next steps, for the room the report carried; may be None or hold fewer than asked for.
    """

    stale: tuple[LeaseRef, ...] = ()
    leases: Leases | None = None


class Progress(Message, frozen=True):
    """What a handler last said of itself, with the executor's heartbeat."""

    run: bytes
    no: int
    fence: int
    progress: bytes | None = None


class Heartbeat(Message, frozen=True):
    """An executor is alive, and holds these steps. Every `period` seconds, one message for all of them.

    Attributes:
        executor: Id of the executor process.
        name: Name for people: host and process.
        queues: Queues it serves.
        held: Every lease it holds, running or waiting in it.
        progress: What handlers said since the last heartbeat.
        stopping: True while it drains: no new leases.
        handlers: Names its modules registered; publish checks templates against them.
    """

    executor: str
    name: str
    queues: tuple[str, ...]
    held: tuple[LeaseRef, ...]
    progress: tuple[Progress, ...] = ()
    stopping: bool = False
    handlers: tuple[str, ...] = ()


class HeartbeatAnswer(Message, frozen=True):
    """Answer to Heartbeat.

    Attributes:
        lost: Leases the executor no longer has: stop the work, do not report it.
        lease_seconds: How long leases last without another heartbeat.
        now: The run store's clock.
    """

    lost: tuple[LeaseRef, ...]
    lease_seconds: float
    now: float


class Stop(Message, frozen=True):
    """Sent to an executor's stop subject: these leases are over; stop the work at once.

    Attributes:
        leases: Which.
        reason: cancelled, terminated, rolled_back, failed or timeout.
    """

    leases: tuple[LeaseRef, ...]
    reason: str


class FetchInput(Message, frozen=True):
    """Ask for the request of a lease that was too large to travel with it, or for its next chunk."""

    executor: str
    lease: LeaseRef
    offset: int = 0


class Chunk(Message, frozen=True):
    """Answer to FetchInput.

    Attributes:
        data: Bytes from the offset asked for.
        total: Length of the whole.
        stale: The lease is no longer held; nothing else is set.
    """

    data: bytes = b""
    total: int = 0
    stale: bool = False


class StorePart(Message, frozen=True):
    """Store one part of the output of a lease. Checked against the fence; safe to repeat.

    Attributes:
        blob: UUID the executor has made for the output, 16 bytes.
        number: 0 and up.
        data: PART_BYTES of it, fewer in the last part.
    """

    executor: str
    lease: LeaseRef
    blob: bytes
    number: int
    data: bytes


class PartStored(Message, frozen=True):
    """Answer to StorePart, after its commit; `stale` when the lease is no longer held and nothing was stored."""

    stale: bool = False


class Unseal(Message, frozen=True):
    """Ask for the sealed values a lease's request refers to. Checked against the fence."""

    executor: str
    lease: LeaseRef


class Unsealed(Message, frozen=True):
    """Answer to Unseal.

    Attributes:
        values: JSON bytes by the name of the variable.
        secrets: JSON bytes by the name of the secret; those the request refers to.
        callbacks: JSON bytes of URLs by the key of the callback; those the request refers to.
        missing: Secrets the request refers to that the owner does not have.
        unreadable: Secrets that no key of the scheduler opens.
        stale: The lease is no longer held; nothing else is set.
    """

    values: dict[str, bytes] = msgspec.field(default_factory=dict)
    secrets: dict[str, bytes] = msgspec.field(default_factory=dict)
    callbacks: dict[str, bytes] = msgspec.field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    stale: bool = False


class Ready(Message, frozen=True):
    """Told to all schedulers: steps became ready on these queues and nobody had claimed them."""

    scheduler: str
    queues: tuple[str, ...]


class Gone(Message, frozen=True):
    """Told to all schedulers: these executors are given nothing more, until they are heard of again."""

    scheduler: str
    executors: tuple[str, ...]


class RunChanged(Message, frozen=True):
    """Told to all schedulers by whoever changed a run outside a scheduler's cycle (something happened at a gate).

    Attributes:
        run: UUID of the run, 16 bytes.
        gate: UUID of the gate, 16 bytes.
        version: The run's version after the change; 0 when the gate stayed open, which leaves it as it is.
        traceparent: W3C trace context of the call that did it; empty without one.
    """

    run: bytes
    gate: bytes
    version: int
    traceparent: str = ""


class Watching(Message, frozen=True):
    """Told to all schedulers: somebody at this scheduler watches these runs, for the next 30 seconds."""

    scheduler: str
    runs: tuple[bytes, ...]


class Moved(Message, frozen=True):
    """Told to a scheduler that watches: these runs have new events.

    Attributes:
        ended: Those of them that have ended.
    """

    runs: tuple[bytes, ...]
    ended: frozenset[bytes] = frozenset()


class TemplateChanged(Message, frozen=True):
    """Told to all schedulers: a template was published, deprecated or replaced."""

    template: bytes


M = TypeVar("M", bound=Message)

encode = msgspec.msgpack.Encoder().encode


def decoder(kind: type[M]) -> msgspec.msgpack.Decoder[M]:
    """A decoder for one kind of message; keep it, making one is slow."""
    return msgspec.msgpack.Decoder(kind)
