"""What executors say: claims, reports, heartbeats, and requests for what did not fit a message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from wfe_bus import messages as m
from wfe_bus import subjects
from wfe_bus.connection import MESSAGE_BYTES
from wfe_engine import commands as cmd
from wfe_engine.errors import ResourceExhausted, Unavailable
from wfe_engine.state import Fault
from wfe_store import leases
from wfe_store.blobs import load_blob, put_part
from wfe_store.load import load_request
from wfe_store.pool import Database

from wfe_scheduler.clock import StoreClock
from wfe_scheduler.cycle import Cycle
from wfe_scheduler.dispatcher import Dispatcher, first_part
from wfe_scheduler.entries import Item
from wfe_scheduler.unsealing import Unsealing
from wfe_scheduler.work import Stale

_log = structlog.get_logger("wfe.scheduler.executors")
_claim = m.decoder(m.Claim)
_report = m.decoder(m.Report)
_heartbeat = m.decoder(m.Heartbeat)
_fetch = m.decoder(m.FetchInput)
_store = m.decoder(m.StorePart)
_unseal = m.decoder(m.Unseal)


class Reply:
    """An answer to a report that is being committed, perhaps by several cycles."""

    __slots__ = ("executor", "failed", "message", "open", "stale")

    def __init__(self, message: Msg, executor: str, count: int) -> None:
        self.message = message
        self.executor = executor
        self.open = count
        self.stale: list[m.LeaseRef] = []
        self.failed = False


class Executors:
    """Serves the executors' subjects."""

    def __init__(
        self,
        bus: Client,
        database: Database,
        clock: StoreClock,
        cycle: Cycle,
        dispatcher: Dispatcher,
        unsealing: Unsealing,
        *,
        scheduler: str,
        lease_seconds: float,
    ) -> None:
        self._bus = bus
        self._database = database
        self._clock = clock
        self._cycle = cycle
        self._dispatcher = dispatcher
        self._unsealing = unsealing
        self._scheduler = scheduler
        self._lease_seconds = lease_seconds
        self._answerable: list[Reply] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def subscribe(self) -> None:
        """Begin to listen."""
        group = subjects.SCHEDULERS
        await self._bus.subscribe(subjects.CLAIM, queue=group, cb=self._on_claim)
        await self._bus.subscribe(subjects.REPORT, queue=group, cb=self._on_report)
        await self._bus.subscribe(subjects.report_to(self._scheduler), cb=self._on_report)
        for subject, handle in (
            (subjects.HEARTBEAT, self._heartbeat),
            (subjects.FETCH, self._fetch),
            (subjects.STORE, self._store),
            (subjects.UNSEAL, self._unseal),
        ):
            await self._bus.subscribe(subject, queue=group, cb=self._in_task(handle))

    def _in_task(self, handle: Callable[[Msg], object]) -> Callable[[Msg], object]:
        # These wait for the store; the subscription must not wait with them.
        async def guarded(message: Msg) -> None:
            try:
                await handle(message)  # type: ignore[misc]
            except Unavailable:
                pass  # unanswered: the executor asks again
            except Exception:  # noqa: BLE001 - one message must not end the subscription
                _log.exception("executor's message failed", subject=message.subject)

        async def start(message: Msg) -> None:
            task = asyncio.create_task(guarded(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return start

    async def _on_claim(self, message: Msg) -> None:
        claim = _claim.decode(message.data)
        self._dispatcher.credits.claim(claim.executor, claim.queues, claim.generation, claim.room)
        self._dispatcher.room()

    # ---- reports

    async def _on_report(self, message: Msg) -> None:
        report = _report.decode(message.data)
        if report.room:
            self._dispatcher.credits.add(report.executor, report.queues, report.room)
            self._dispatcher.room()
        released = [o for o in report.outcomes if o.released]
        outcomes = [o for o in report.outcomes if not o.released] if released else report.outcomes
        reply = Reply(message, report.executor, len(outcomes) + (1 if released else 0))
        if not reply.open:
            self._close(reply)
        if released:
            task = asyncio.create_task(self._released(reply, released))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for outcome in outcomes:
            if outcome.stored is None:
                self._submit(reply, report.executor, outcome, outcome.output)
            else:
                task = asyncio.create_task(self._submit_stored(reply, report.executor, outcome, outcome.stored))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _submit_stored(self, reply: Reply, executor: str, outcome: m.Outcome, stored: m.StoredOutput) -> None:
        """Submit an outcome whose output was stored before: expressions must be able to see it."""
        output = None
        try:
            if stored.size <= m.OUTPUT_BYTES:
                async with self._database.connection() as connection:
                    run, blob = UUID(bytes=outcome.run), UUID(bytes=stored.blob)
                    output = await load_blob(connection, run, blob, stored.size)
        except Unavailable:
            reply.failed = True
            self._closed_one(reply)
            return
        if output is None:
            failure = m.Failure(code="OUTPUT_LOST", message="the output was not stored whole")
            outcome = msgspec.structs.replace(outcome, failure=failure)
        self._submit(reply, executor, outcome, output)

    def _submit(self, reply: Reply, executor: str, outcome: m.Outcome, output: bytes | None) -> None:
        failure = outcome.failure
        command = cmd.Report(
            no=outcome.no,
            output=output,
            fault=None
            if failure is None
            else Fault(code=failure.code, message=failure.message, details=failure.details),
            retryable=failure is None or failure.retryable,
            retry_after=None if failure is None else failure.retry_after,
            executor=executor,
            fence=outcome.fence,
            # The executor's clock may be ahead by a little: no step begins after it has ended.
            started_at=min(outcome.started_at, self._clock.now()) or None,
        )

        def done(refusal: Exception | None) -> None:
            if isinstance(refusal, Unavailable | ResourceExhausted):
                reply.failed = True
            elif refusal is not None:
                if not isinstance(refusal, Stale):
                    _log.warning("report refused", step=outcome.no, refusal=str(refusal)[:300])
                reply.stale.append(m.LeaseRef(run=outcome.run, no=outcome.no, fence=outcome.fence))
            self._closed_one(reply)

        self._cycle.submit(
            Item(UUID(bytes=outcome.run), command, done, actor=f"executor:{executor}", reporter=executor)
        )

    async def _released(self, reply: Reply, outcomes: list[m.Outcome]) -> None:
        try:
            async with self._database.connection() as connection:
                queues = await leases.release(connection, [(UUID(bytes=o.run), o.no, o.fence) for o in outcomes])
            self._dispatcher.ready(queues, announce=True)
        except Unavailable:
            reply.failed = True
        self._closed_one(reply)
        self.answer({})

    def _closed_one(self, reply: Reply) -> None:
        reply.open -= 1
        if reply.open == 0:
            self._close(reply)

    def _close(self, reply: Reply) -> None:
        self._answerable.append(reply)
        if len(self._answerable) == 1:
            # After the cycle has told everything of its commit; at once when there was nothing to commit.
            asyncio.get_running_loop().call_soon(self.answer, {})

    def answer(self, granted: dict[str, list[m.Lease]]) -> None:
        """Answer the reports that are settled, with leases of the same commit for their executors; send the rest."""
        replies, self._answerable = self._answerable, []
        for reply in replies:
            if reply.failed:
                continue  # unanswered: the executor reports again
            leases = None
            waiting = granted.pop(reply.executor, None)
            if waiting:
                first, rest = first_part(waiting)
                leases = self._dispatcher.message(first)
                if rest:
                    granted[reply.executor] = rest
            answer = m.Reported(stale=tuple(reply.stale), leases=leases)
            if reply.message.reply:
                task = asyncio.ensure_future(reply.message.respond(m.encode(answer)))
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
        for executor, waiting in granted.items():
            self._dispatcher.send(executor, waiting)

    # ---- the rest

    async def _heartbeat(self, message: Msg) -> None:
        beat = _heartbeat.decode(message.data)
        async with self._database.connection() as connection:
            lost, freed = await leases.heartbeat(
                connection,
                executor=beat.executor,
                name=beat.name,
                queues=beat.queues,
                handlers=beat.handlers,
                stopping=beat.stopping,
                lease_seconds=self._lease_seconds,
                held=[(UUID(bytes=ref.run), ref.no, ref.fence) for ref in beat.held],
                progress=[
                    (UUID(bytes=p.run), p.no, p.fence, p.progress.decode())
                    for p in beat.progress
                    if p.progress is not None
                ],
            )
        if beat.stopping:
            self._dispatcher.gone([beat.executor], announce=True)
        if freed:
            self._dispatcher.ready(freed, announce=True)
        answer = m.HeartbeatAnswer(
            lost=tuple(m.LeaseRef(run=h.run.bytes, no=h.no, fence=h.fence) for h in lost),
            lease_seconds=self._lease_seconds,
            now=self._clock.now(),
        )
        await message.respond(m.encode(answer))

    async def _fetch(self, message: Msg) -> None:
        ask = _fetch.decode(message.data)
        lease, run = ask.lease, UUID(bytes=ask.lease.run)
        async with self._database.connection() as connection:
            found = await load_request(connection, run, lease.no, lease.fence, ask.offset, MESSAGE_BYTES - 1024)
        answer = m.Chunk(stale=True) if found is None else m.Chunk(data=found[0], total=found[1])
        await message.respond(m.encode(answer))

    async def _store(self, message: Msg) -> None:
        ask = _store.decode(message.data)
        lease, run, blob = ask.lease, UUID(bytes=ask.lease.run), UUID(bytes=ask.blob)
        async with self._database.connection() as connection:
            held = await put_part(connection, run, lease.no, lease.fence, blob, ask.number, ask.data)
        await message.respond(m.encode(m.PartStored(stale=not held)))

    async def _unseal(self, message: Msg) -> None:
        ask = _unseal.decode(message.data)
        await message.respond(m.encode(await self._unsealing.answer(ask.lease)))
