"""Getting ready steps to executors: leases granted in a commit, and claims of what nobody had asked for yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from uuid import UUID

import msgspec
import structlog
from nats.aio.client import Client
from wfe_bus import messages as m
from wfe_bus import subjects
from wfe_bus.connection import MESSAGE_BYTES
from wfe_engine.effects import Dispatch
from wfe_engine.errors import Unavailable
from wfe_engine.plan import Clocks
from wfe_engine.scopes import UNDO, block_at
from wfe_store import leases
from wfe_store.blobs import referred
from wfe_store.leases import ClaimedStep
from wfe_store.pool import Database

from wfe_scheduler.clock import StoreClock
from wfe_scheduler.credits import Credits
from wfe_scheduler.metrics import CLAIM_WAIT, LEASES
from wfe_scheduler.traces import Traces
from wfe_scheduler.work import Outcome, Work, lease_fence

#: A request above this travels by itself (FetchInput), so that a batch of leases stays below NATS's limit.
INLINE_BYTES = 128 * 1024
#: Leases of one message, in bytes of requests.
BATCH_BYTES = MESSAGE_BYTES - 64 * 1024
#: Steps of one claim.
CLAIM_STEPS = 256

_log = structlog.get_logger("wfe.scheduler.dispatcher")
_clocks = msgspec.json.Decoder(Clocks)


class Dispatcher:
    """Hands ready steps out.

    A step that becomes ready while an executor waits here is leased in the very commit (`assign`). Others wait in the
    store, as a backlog by queue; they are claimed from there by priority and owner in turn, and while there is a
    backlog nothing overtakes it.

    Attributes:
        held: An operator holds dispatch: nothing is handed out.
    """

    def __init__(
        self, bus: Client, database: Database, clock: StoreClock, scheduler: str, traces: Traces | None = None
    ) -> None:
        self._bus = bus
        self._database = database
        self._clock = clock
        self._scheduler = scheduler
        self._traces = traces or Traces(database, clock)
        self.credits = Credits()
        self.held = False
        self._backlog: set[str] = set()
        self._wake = asyncio.Event()

    # ---- in the commit

    def assign(self, queue: str, prefer: str) -> str | None:
        """An executor to lease a step to that becomes ready now; None while others of its queue wait longer."""
        return None if self.held or queue in self._backlog else self.credits.take(queue, prefer)

    def granted(self, outcome: Outcome) -> dict[str, list[m.Lease]]:
        """Leases of a committed cycle by executor; notes what nobody was there for."""
        by_executor: dict[str, list[m.Lease]] = {}
        unclaimed: set[str] = set()
        for work in outcome.works:
            for dispatch in work.leased:
                by_executor.setdefault(work.leases[dispatch.no], []).append(
                    _lease(work, dispatch, self._traces.of(work.entry.run))
                )
            for effects in work.effects:
                unclaimed.update(d.queue for d in effects.dispatches if d.no not in work.leases)
                unclaimed.update(r.queue for r in effects.redispatches)
                for again in effects.again:
                    self.ready_at(again.available_at, _queue(work, again.no))
                if effects.release is not None:
                    unclaimed.update(work.entry.published.queues)
        if unclaimed:
            self.ready(unclaimed, announce=True)
        return by_executor

    def send(self, executor: str, granted: list[m.Lease]) -> None:
        """Send leases to an executor, in as many messages as they need."""
        for part in _parts(granted):
            self._publish(subjects.leases_for(executor), self.message(part))

    def message(self, granted: Iterable[m.Lease]) -> m.Leases:
        """Leases as a message."""
        return m.Leases(scheduler=self._scheduler, leases=tuple(granted), now=self._clock.now())

    def stop(self, executor: str, refs: list[m.LeaseRef], reason: str) -> None:
        """Tell an executor that leases of it are over."""
        self._publish(subjects.stop_for(executor), m.Stop(leases=tuple(refs), reason=reason))

    def _publish(self, subject: str, message: m.Message) -> None:
        # Lost messages cost latency only: what never arrived is missing from the executor's heartbeat.
        task = asyncio.ensure_future(self._bus.publish(subject, m.encode(message)))
        task.add_done_callback(_swallow)

    # ---- from the store

    def ready(self, queues: Iterable[str], *, announce: bool) -> None:
        """Steps of these queues are ready and nobody has them.

        Args:
            announce: Whether other schedulers should hear of it, when no executor waits here.
        """
        names = set(queues)
        self._backlog |= names
        elsewhere = [queue for queue in names if not self.credits.serves(queue)]
        if announce and elsewhere:
            self._publish(subjects.READY, m.Ready(scheduler=self._scheduler, queues=tuple(elsewhere)))
        if len(elsewhere) < len(names):
            self._wake.set()

    def gone(self, executors: Iterable[str], *, announce: bool) -> None:
        """These executors have died, or are about to end.

        Args:
            announce: Whether other schedulers should hear of it: each has heard some of their claims.
        """
        names = tuple(executors)
        for executor in names:
            self.credits.forget(executor)
        if announce and names:
            self._publish(subjects.GONE, m.Gone(scheduler=self._scheduler, executors=names))

    def ready_at(self, moment: float, queue: str) -> None:
        """A step of a queue will be ready at a moment. The sweep finds it too, but up to a period later."""
        delay = moment - self._clock.now()
        if delay < 30:
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, delay) + 0.001, lambda: self.ready([queue], announce=True))

    def room(self) -> None:
        """An executor has room: give it what waits."""
        if self._backlog:
            self._wake.set()

    async def run(self) -> None:
        """Claim from the backlog until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._claim():
                    pass
            except Unavailable:
                await asyncio.sleep(0.2)
                self._wake.set()
            except Exception:  # noqa: BLE001 - claiming must go on, whatever it was
                _log.exception("claim failed")

    async def _claim(self) -> bool:
        """One claim for every executor with room; False when nothing more is to be had."""
        more = False
        if self.held:
            return False  # the backlog stays as it is; the sweep wakes this up once it is released
        for executor, queues, room in self.credits.waiting():
            for queue in [queue for queue in queues if queue in self._backlog]:
                wanted = min(room, CLAIM_STEPS)
                if wanted <= 0:
                    break
                self.credits.give_back(executor, -wanted)
                claimed: list[ClaimedStep] = []
                try:
                    async with self._database.connection() as connection:
                        claimed = await leases.claim(connection, executor, queue, wanted)
                finally:
                    self.credits.give_back(executor, wanted - len(claimed))
                if not claimed:
                    self._backlog.discard(queue)
                    continue
                room -= len(claimed)
                more = True
                LEASES.inc("claim", by=len(claimed))
                for step in claimed:
                    CLAIM_WAIT.observe(step.waited, queue)
                await self._traces.load(step.run for step in claimed)
                self.send(executor, [_claimed(step, self._traces.of(step.run)) for step in claimed])
        return more


@lru_cache(maxsize=1024)
def _text(owner: UUID) -> str:
    return str(owner)


def _lease(work: Work, dispatch: Dispatch, traceparent: str) -> m.Lease:
    run = work.entry.run
    clocks = dispatch.clocks
    return m.Lease(
        run=run.bytes,
        no=dispatch.no,
        fence=lease_fence(work),
        path=dispatch.path,
        iteration=dispatch.iteration,
        visit=dispatch.visit,
        kind=dispatch.kind,
        request=dispatch.request if len(dispatch.request) <= INLINE_BYTES else None,
        attempt=1,
        max_attempts=dispatch.max_attempts,
        idempotency_key=idempotency_key(
            work.entry.values.run["id"], dispatch.path, dispatch.iteration, dispatch.visit, dispatch.epoch
        ),
        attempt_timeout=clocks.attempt,
        heartbeat_timeout=clocks.heartbeat,
        total_deadline=None if clocks.total is None else dispatch.available_at + clocks.total,
        sealed=dispatch.sealed,
        traceparent=traceparent,
        owner=_text(work.entry.owner),
        approval=dispatch.approval,
        digest=dispatch.digest,
    )


def _claimed(step: ClaimedStep, traceparent: str) -> m.Lease:
    clocks = _clocks.decode(step.clocks)
    request = step.request.encode()
    return m.Lease(
        run=step.run.bytes,
        no=step.no,
        fence=step.fence,
        path=step.path,
        iteration=step.iteration,
        visit=step.visit,
        kind=step.kind,
        request=request if len(request) <= INLINE_BYTES and referred(step.request) is None else None,
        attempt=step.attempt,
        max_attempts=step.max_attempts,
        idempotency_key=idempotency_key(step.run, step.path, step.iteration, step.visit, step.epoch),
        attempt_timeout=clocks.attempt,
        heartbeat_timeout=clocks.heartbeat,
        total_deadline=step.total_deadline,
        sealed=step.sealed,
        traceparent=traceparent,
        owner=str(step.owner),
        approval=step.approval,
        digest=step.digest,
    )


def idempotency_key(run: UUID | str, path: str, iteration: str, visit: int, epoch: int) -> str:
    """The same for every attempt of a step, and for no other step."""
    return f"{run}:{path}:{iteration}:{visit}:{epoch}"


def _queue(work: Work, no: int) -> str:
    found = work.state.find(no)
    if found is None:
        return "default"
    scope, index, step = found
    plan = work.entry.published.plan
    if scope == UNDO:
        undo = next(undo for undo in work.state.undo if undo.no == step.no)
        node = block_at(plan, undo.scope).nodes[undo.index].compensate
        return "default" if node is None else node.queue
    return block_at(plan, scope).nodes[index].queue


def _parts(granted: list[m.Lease]) -> list[list[m.Lease]]:
    parts: list[list[m.Lease]] = [[]]
    size = 0
    for lease in granted:
        length = len(lease.request or b"") + 512
        if parts[-1] and size + length > BATCH_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(lease)
        size += length
    return parts


def first_part(granted: list[m.Lease]) -> tuple[list[m.Lease], list[m.Lease]]:
    """As many leases as fit one answer, and the rest."""
    part = _parts(granted)[0]
    return part, granted[len(part) :]


def _swallow(task: asyncio.Future[None]) -> None:
    if not task.cancelled():
        task.exception()
