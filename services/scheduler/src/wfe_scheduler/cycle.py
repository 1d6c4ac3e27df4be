"""The commit cycle: everything that arrived while the last transaction was in flight is decided together.

One cycle takes the waiting commands, decides them one after the other in memory, writes all of it in one transaction,
and only then answers. Several cycles may be in flight, over different runs: a run that is being committed keeps its
further commands waiting. Memory changes only after the commit, and only for what was committed; whatever goes wrong
with a batch, its runs are read back and decided one by one (`singles`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import psycopg
import structlog
from wfe_engine import commands as cmd
from wfe_engine.decide import Decision, decide
from wfe_engine.errors import Unavailable, WfeError
from wfe_engine.state import ENDED, is_parked
from wfe_engine.turn import Env
from wfe_engine.values import Deferred
from wfe_store import commit as store
from wfe_store.commit import Lost, Stopped, Unknown
from wfe_store.load import StoredEvent
from wfe_store.wire import Wire

from wfe_scheduler import refusals
from wfe_scheduler.clock import StoreClock
from wfe_scheduler.entries import Cache, Entry, Item
from wfe_scheduler.evaluate import Evaluator
from wfe_scheduler.ids import new_id
from wfe_scheduler.reader import Reader
from wfe_scheduler.work import Outcome, Stale, Work, batch_of, happened

_log = structlog.get_logger("wfe.scheduler.cycle")


class Cycle:
    """Decides and commits.

    Args:
        url: Of the run store.
        assign: Picks an executor for a step that is ready: (queue, preferred executor) -> executor or None.
        unassign: Takes a pick back when its commit failed.
        load: Reads runs back by id, as entries; those that do not exist are missing.
        present_fence: Fence of a live step, from the store; None when it is not live.
        recorded: An event of a run by its seq, from the store; None when there is none.
        untold: Decisions of a run's gates that the run has not taken in yet, as items.
        committed: Told of every committed cycle, before its items are answered.
        answered: Told after they were.
        told: Whether an owner's events go to the outbox.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        clock: StoreClock,
        cache: Cache,
        evaluator: Evaluator,
        assign: Callable[[str, str], str | None],
        unassign: Callable[[str], None],
        load: Callable[[Iterable[UUID]], Awaitable[dict[UUID, Entry]]],
        present_fence: Callable[[UUID, int], Awaitable[int | None]],
        recorded: Callable[[UUID, int], Awaitable[StoredEvent | None]],
        untold: Callable[[UUID], Awaitable[list[Item]]],
        committed: Callable[[Outcome], None],
        answered: Callable[[Outcome], None],
        told: Callable[[UUID], bool] = lambda _owner: False,
        cycles: int = 2,
        batch: int = 512,
        snapshot_every: int = 0,
    ) -> None:
        self._url = url
        self._name = name
        self._clock = clock
        self._cache = cache
        self._evaluator = evaluator
        self._assign = assign
        self._unassign = unassign
        self._load = load
        self._present_fence = present_fence
        self._recorded = recorded
        self._untold = untold
        self._committed = committed
        self._answered = answered
        self._told = told
        self._batch = batch
        self._snapshot_every = snapshot_every
        self._inbox: deque[Item] = deque()
        self._reader = Reader(load, cache, self._queue)
        self._wake = asyncio.Event()
        self._free: asyncio.Queue[Wire | None] = asyncio.Queue()
        for _ in range(cycles):
            self._free.put_nowait(None)
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, item: Item) -> None:
        """Take in a command; it is answered through `item.done` after its commit."""
        self._queue([item])

    def _queue(self, items: Iterable[Item]) -> None:
        now = time.monotonic()
        for item in items:
            item.since = now
            self._inbox.append(item)
        self._wake.set()

    @property
    def depth(self) -> int:
        """Commands that wait for a cycle, or for their runs to be read."""
        return len(self._inbox) + self._reader.depth

    @property
    def lag(self) -> float:
        """Seconds the oldest of them has waited."""
        since = [item.since for item in (self._inbox[0] if self._inbox else None, self._reader.oldest) if item]
        return time.monotonic() - min(since) if since else 0.0

    def behind(self, run: UUID) -> int:
        """Commands of a run that wait for the commit of an earlier one of it."""
        return len(entry.pending) if (entry := self._cache.get(run)) is not None else 0

    def goes_on(self, owner: UUID, run: UUID) -> bool:
        """Whether a run of this owner is in memory, so has not ended as far as is known here."""
        entry = self._cache.get(run)
        return entry is not None and entry.owner == owner and entry.state.status not in ENDED

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            connection = await self._free.get()
            works = self._take()
            if not works:
                self._free.put_nowait(connection)
                continue
            self._spawn(self._one(connection, works))

    async def drain(self) -> None:
        """Wait until nothing is in flight and nothing waits."""
        while self._inbox or self._tasks or self._reader.busy:
            await asyncio.wait({*self._tasks, asyncio.ensure_future(asyncio.sleep(0.01))})

    async def close(self) -> None:
        """Close the connections."""
        while not self._free.empty():
            connection = self._free.get_nowait()
            if connection is not None:
                await connection.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self) -> list[Work]:
        works: dict[UUID, Work] = {}
        count = 0
        now = self._clock.now()
        inbox = self._inbox
        while inbox and count < self._batch:
            item = inbox.popleft()
            entry = item.entry or self._cache.get(item.run)
            if entry is None:
                self._reader.want(item)
                continue
            work = works.get(item.run)
            # Reports of one run go together; anything else would have to see the rows of the decision before it.
            report = isinstance(item.command, cmd.Report)
            if entry.busy or (work is not None and not (report and isinstance(work.items[-1].command, cmd.Report))):
                entry.pending.append(item)
                continue
            if work is None:
                work = Work(entry, now)
            if self._decide(work, item):
                works[item.run] = work
                count += 1
        if not inbox:
            self._wake.clear()
        for work in works.values():
            work.entry.busy = True
        return list(works.values())

    # ---- deciding

    def _decide(self, work: Work, item: Item) -> bool:
        """Decide one item on top of what the work has; False when there is nothing to write for it."""
        entry = work.entry
        if item.owner is not None and item.owner != entry.owner:
            item.done(refusals.missing(item.run))
            return False
        env = Env(
            now=work.now,
            chance=random.random(),
            new_id=new_id,
            values=entry.values,
            evaluate=self._evaluator,
            snapshot_every=self._snapshot_every,
        )
        try:
            decision = decide(entry.published.plan, work.state, item.command, env)
        except Deferred as deferred:
            self._spawn(self._outside(deferred, item))
            return False
        except WfeError as refusal:
            if not self._look_again(work, item):
                item.done(refusal)
            return False
        except Exception as fault:  # noqa: BLE001 - a fault in one decision must not take the others with it
            _log.exception("decision failed", run=str(item.run), command=type(item.command).__name__)
            item.done(fault)
            self._break(item, fault)
            return False
        if decision.empty:
            if not self._look_again(work, item):
                item.done(Stale() if isinstance(item.command, cmd.Report) else None)
            return False
        if work.effects and work.touches(decision.effects):
            entry.pending.append(item)  # a row is written once in a transaction; it is decided again in the next
            return False
        self._keep(work, item, decision)
        return True

    def _break(self, item: Item, fault: Exception) -> None:
        """Fail a run whose own progress cannot be decided, rather than try for ever. People are told of theirs."""
        if item.owner is None and item.entry is None and not isinstance(item.command, cmd.Break):
            broken = cmd.Break(message=f"the engine could not go on: {type(fault).__name__}: {fault}"[:500])
            self.submit(Item(item.run, broken, lambda _: None, actor="system"))

    def _look_again(self, work: Work, item: Item) -> bool:
        """Decide once more, on what the store has: another scheduler may have decided since this one looked."""
        if item.fresh or item.entry is not None:
            return False
        item.fresh = True
        if work.items:  # behind the commit of what it stands on, which shows whether that was current
            work.entry.pending.append(item)
        else:
            self._cache.drop(item.run)
            self._reader.want(item)
        return True

    def _keep(self, work: Work, item: Item, decision: Decision) -> None:
        work.items.append(item)
        work.state = decision.state
        work.events.extend([(event, item.actor, item.reason) for event in decision.events])
        work.effects.append(decision.effects)
        # Later decisions of this cycle see these; should the commit fail, the entry is read back.
        work.entry.values.records.update(decision.added)
        for no, (given, params) in decision.entered.items():
            work.entry.values.record(no, given, params)
        if decision.signals:
            work.entry.values.signals.update(decision.signals)
        if decision.state.paused_at is not None:
            return
        for dispatch in decision.effects.dispatches:
            if dispatch.available_at <= work.now:
                executor = self._assign(dispatch.queue, item.reporter)
                if executor is not None:
                    work.leases[dispatch.no] = executor
                    work.leased.append(dispatch)

    async def _outside(self, deferred: Deferred, item: Item) -> None:
        try:
            await self._evaluator.outside(deferred)
        except Exception as fault:  # noqa: BLE001 - whoever waits must be told; reports are repeated
            item.done(fault if isinstance(fault, WfeError) else Unavailable("an expression could not be evaluated"))
        else:
            self.submit(item)

    # ---- committing

    async def _one(self, connection: Wire | None, works: list[Work]) -> None:
        try:
            connection = await self._commit(connection, works)
        except Exception:  # noqa: BLE001 - whoever waits must be told, whatever it was
            _log.exception("cycle failed")
            for work in works:
                self._give_up(work, Unavailable("the decision could not be committed; try again"))
        finally:
            self._free.put_nowait(connection)

    async def _commit(self, connection: Wire | None, works: list[Work]) -> Wire | None:
        # By id: the order in which all schedulers lock runs.
        works.sort(key=lambda work: work.entry.run)
        batch = batch_of(works, self._told)
        try:
            if connection is None or connection.closed:
                connection = await store.connect(self._url, self._name)
            stopped = await store.commit(connection, batch)
        except (Lost, Unknown, psycopg.Error) as fault:
            if not isinstance(fault, Lost):
                _log.warning("batch not committed", fault=str(fault)[:300], runs=len(works))
            return await self._singles(connection, works, unknown=isinstance(fault, Unknown))
        self._finish(works, stopped)
        return connection

    def _finish(self, works: list[Work], stopped: list[Stopped]) -> None:
        for work in works:
            entry = work.entry
            entry.state = work.state
            entry.version += 1
            entry.new = None
            rewritten = any(effects.rolled_back is not None or effects.revised for effects in work.effects)
            # On its way back it needs what its steps were then, which only the store knows.
            returning = work.state.returning is not None
            if work.state.status in ENDED or is_parked(work.state) or rewritten or returning:
                self._cache.drop(entry.run)
            elif self._cache.get(entry.run) is None:
                self._cache.put(entry)
        outcome = Outcome(works, stopped)
        self._committed(outcome)
        for work in works:
            for item in work.items:
                item.done(None)
            self._release(work.entry)
        self._answered(outcome)

    def _release(self, entry: Entry) -> None:
        entry.busy = False
        if entry.pending:
            self._queue(entry.pending)
            entry.pending.clear()
        if self._inbox:
            self._wake.set()

    def _give_up(self, work: Work, fault: Exception) -> None:
        self._cache.drop(work.entry.run)
        for executor in work.leases.values():
            self._unassign(executor)
        for item in work.items:
            item.done(fault)
        self._release(work.entry)

    async def _singles(self, connection: Wire | None, works: list[Work], *, unknown: bool) -> Wire | None:
        """Decide the runs of a batch that was not committed, or perhaps was, one by one, from what the store has."""
        for work in works:
            for executor in work.leases.values():
                self._unassign(executor)
            self._cache.drop(work.entry.run)
            for item in work.items:
                connection = await self._single(connection, item, [work] if unknown else [])
            self._release(work.entry)
        return connection

    async def _single(self, connection: Wire | None, item: Item, doubtful: list[Work]) -> Wire | None:
        """Decide one item; `doubtful` are works with it whose commits may have happened, or may happen still."""
        fault: Exception = Unavailable("the run store is down; try again", reason="STORE_DOWN")
        for attempt in range(5):
            try:
                if connection is None or connection.closed:
                    connection = await store.connect(self._url, self._name)
                if attempt and not isinstance(item.command, cmd.GateClosed | cmd.GateNotes | cmd.Start):
                    # A gate that was decided meanwhile cannot be withdrawn: the run takes the decision in first.
                    for told in await self._untold(item.run):
                        connection = await self._single(connection, told, [])
                entry = (await self._load([item.run])).get(item.run)
                inserted = item.entry is not None and entry is not None  # after all
                if inserted or await happened(self._recorded, doubtful):
                    item.done(None)
                    return connection
                entry = item.entry or entry
                if entry is None:
                    item.done(refusals.missing(item.run))
                    return connection
                if isinstance(item.command, cmd.Report | cmd.ClockRanOut):
                    present = await self._present_fence(item.run, item.command.no)
                    if present != item.command.fence:
                        item.done(Stale())
                        return connection
                work, item.fresh = Work(entry, self._clock.now()), True
                if not self._decide(work, item):
                    return connection
                assert connection is not None
                doubtful = [*doubtful, work]
                stopped = await store.commit(connection, batch_of([work], self._told))
                self._finish([work], stopped)
                return connection
            except (Lost, Unknown, Unavailable) as lost:
                fault = lost
                if isinstance(lost, Lost) and isinstance(item.command, cmd.Start):
                    break  # its key is taken; a run's id never is
                await asyncio.sleep(0.01 * 2**attempt * random.random())
            except psycopg.OperationalError as down:
                fault = down
                if isinstance(down, psycopg.errors.DiskFull):
                    break  # trying again makes no room
                await asyncio.sleep(0.05 * 2**attempt)
            except psycopg.Error as refused:
                _log.error("refused by the store", run=str(item.run), fault=str(refused)[:500])
                fault = refused
                break
        item.done(refusals.told(fault, item))
        return connection
