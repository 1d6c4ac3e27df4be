"""Runs that runs wait for: carries out after a commit what a step wants of its child, and tells parents of ends.

Both are in the store before anybody does them, so whoever dies in between costs latency only: a sweep finds wishes
that were not carried out, and ends nobody was told of. Doing either twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
import structlog
from wfe_engine import commands as cmd
from wfe_engine.errors import NotFound, StateConflict, WfeError
from wfe_engine.state import COMPLETED, ENDED, Fault, RunState
from wfe_engine.values import Values
from wfe_language import check_input
from wfe_store import children as stored
from wfe_store.batch import NewRun
from wfe_store.children import Ended, Wish
from wfe_store.commit import Lost
from wfe_store.pool import Database

from wfe_scheduler.clock import StoreClock
from wfe_scheduler.cycle import Cycle
from wfe_scheduler.entries import Entry, Item, run_facts
from wfe_scheduler.plans import Plans, Published
from wfe_scheduler.traces import Traces
from wfe_scheduler.work import Outcome

#: Seconds after which somebody else carries out a wish.
OVERDUE_SECONDS = 2.0
CHILD_REFUSED, CHILD_FAILED, CHILD_CANCELLED = "CHILD_REFUSED", "CHILD_FAILED", "CHILD_CANCELLED"

_log = structlog.get_logger("wfe.scheduler.children")
_encode = msgspec.json.encode


class Children:
    """Starts, retries and cancels child runs, and tells parents."""

    def __init__(self, database: Database, cycle: Cycle, plans: Plans, clock: StoreClock, traces: Traces) -> None:
        self._database = database
        self._cycle = cycle
        self._plans = plans
        self._clock = clock
        self._traces = traces
        self._tasks: set[asyncio.Task[None]] = set()

    def committed(self, outcome: Outcome) -> None:
        """Do what a commit asks for."""
        wishes, ended = [], []
        for work in outcome.works:
            entry = work.entry
            for effects in work.effects:
                wishes += [
                    Wish(
                        run=entry.run,
                        no=wish.no,
                        child=UUID(wish.child),
                        wish=wish.wish,
                        request=wish.request.decode(),
                        owner=entry.owner,
                        started_by=entry.created_by,
                    )
                    for wish in effects.children
                    if wish.wish != "done"
                ]
            if entry.is_child and work.state.status in ENDED:
                ended.append(entry.run)
        for wish in wishes:
            self._spawn(self._carry_out(wish))
        if ended:
            self._spawn(self._tell(ended))

    async def run_once(self) -> None:
        """One bounded pass over what was left undone.

        Raises:
            Unavailable: The store cannot be read.
        """
        async with self._database.connection() as connection:
            wishes = await stored.overdue_wishes(connection, OVERDUE_SECONDS)
            ended = await stored.ended_children(connection, None)
        for wish in wishes:
            self._spawn(self._carry_out(wish))
        self._submit_ends(ended)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, children: list[UUID]) -> None:
        async with self._database.connection() as connection:
            self._submit_ends(await stored.ended_children(connection, children))

    def _submit_ends(self, ends: Iterable[Ended]) -> None:
        for end in ends:
            output = None if end.output is None else end.output.encode()
            command = cmd.ChildEnded(no=end.no, child=str(end.child), output=output, fault=_fault(end))
            self._cycle.submit(Item(end.run, command, lambda _: None, actor=f"run:{end.child}"))

    async def _carry_out(self, wish: Wish) -> None:
        if wish.wish == "start":
            await self._start(wish)
        else:
            command: cmd.Command = cmd.Retry() if wish.wish == "retry" else cmd.Cancel(hard=wish.wish == "terminate")
            try:
                await self._submit(wish, wish.child, command)
            except NotFound:
                if wish.wish == "retry":  # it was cancelled before it had begun
                    await self._start(wish)
            except StateConflict:
                # It has ended already, or goes on already; a retry may find an end that its parent was not told of.
                async with self._database.connection() as connection:
                    await stored.note_end(connection, wish.child)
        async with self._database.connection() as connection:
            await stored.carried_out(connection, wish)
        if wish.wish == "retry":
            await self._tell([wish.child])

    async def _start(self, wish: Wish) -> None:
        request = msgspec.json.decode(wish.request)
        try:
            published = await self._plans.of_run(wish.owner, UUID(request["template"]), request["version"])
            entry, command = self._entry(wish, request, published)
        except (WfeError, ValueError) as refusal:
            fault = Fault(code=CHILD_REFUSED, message=str(refusal)[:2000], details={"run": str(wish.child)})
            ended = cmd.ChildEnded(no=wish.no, child=str(wish.child), fault=fault)
            await self._submit(wish, wish.run, ended)
            return
        await self._traces.adopt(wish.child, wish.run)
        with contextlib.suppress(Lost):  # it was started already, or is not wanted any more
            await self._submit(wish, wish.child, command, entry)

    def _entry(self, wish: Wish, request: dict[str, Any], published: Published) -> tuple[Entry, cmd.Start]:
        plan = published.plan
        if any(variable.sensitive for variable in plan.variables):
            raise ValueError(f"template {published.name} has sensitive variables; a child run cannot be given those")
        if not isinstance(request["input"], dict):
            raise ValueError("the input of a child run must be an object")
        given, violations = check_input(plan.variables, request["input"])
        if violations:
            raise ValueError("; ".join(f"{v.field}: {v.message}" for v in violations[:10]))
        labels = request.get("labels") or {}
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise ValueError("the labels of a child run must be an object of texts")
        new = NewRun(
            owner=wish.owner,
            template=published.template,
            template_name=published.name,
            template_version=published.version,
            input=_encode(given),
            labels=_encode(labels),
            trigger="workflow",
            created_by=wish.started_by,
            parent=wish.run,
            parent_no=wish.no,
            created_at=round(self._clock.now(), 6),
        )
        moment = dt.datetime.fromtimestamp(new.created_at, dt.UTC).isoformat().replace("+00:00", "Z")
        facts = run_facts(wish.child, published.name, published.version, wish.started_by, moment, labels)
        facts["epoch"] = 1
        values = Values(given, facts)
        entry = Entry(
            wish.child, wish.owner, wish.started_by, published, RunState(), 0, values, new, is_child=True
        )  # fmt: skip
        command = cmd.Start(
            template=str(published.template),
            template_version=published.version,
            trigger="workflow",
            input=given,
            labels=labels,
        )
        return entry, command

    async def _submit(self, wish: Wish, run: UUID, command: cmd.Command, entry: Entry | None = None) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(refusal: Exception | None) -> None:
            if refusal is None:
                future.set_result(None)
            else:
                future.set_exception(refusal)

        reason = "its parent asks for it" if run == wish.child else ""
        self._cycle.submit(Item(run, command, done, actor=f"run:{wish.run}", reason=reason, entry=entry))
        await future


def _fault(end: Ended) -> Fault | None:
    if end.status == COMPLETED:
        return None
    details: dict[str, Any] = {"run": str(end.child)}
    if end.error is None:
        return Fault(code=CHILD_CANCELLED, message=f"the child run was {end.reason or end.status}", details=details)
    error = msgspec.json.decode(end.error)
    details |= {"code": error.get("code"), "step": error.get("step", "")}
    return Fault(code=CHILD_FAILED, message=f"the child run failed: {error.get('message')}"[:2000], details=details)


async def _guarded(work: Any) -> None:
    try:
        await work
    except Exception as fault:  # noqa: BLE001 - the sweep does it again
        _log.warning("child run not served", fault=str(fault)[:300])
