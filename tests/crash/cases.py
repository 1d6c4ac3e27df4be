"""The use cases: what is there before, what is asked, and what it must have come to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from uuid import UUID

from wfe_bus import messages as m
from wfe_engine import commands as cmd
from wfe_engine.errors import StateConflict
from wfe_store.gate_policy import Decider

from tests.crash.process import CALLER, OWNER, Message, Process


class Case(NamedTuple):
    """A use case.

    Attributes:
        name: What is done.
        prepare: Makes what is there before; gives what `act` gets.
        act: Asks; asks again after a crash, as a client or an executor does that got no answer.
    """

    name: str
    prepare: Callable[[Process], Awaitable[Any]]
    act: Callable[[Process, Any], Awaitable[None]]


async def start(process: Process, template: int, key: str | None = None) -> UUID:
    """A run of one of the templates."""
    started = await process.engine.start(CALLER, UUID(int=template), None, {}, {}, key, b"h")
    await process.cycle.drain()
    return started.run_id


async def rows(process: Process, query: str, *params: Any) -> list[tuple[Any, ...]]:
    async with process.database.connection() as connection:
        return await (await connection.execute(query, params)).fetchall()


async def lease(process: Process, run: UUID, no: int) -> m.LeaseRef:
    """Lease a step to executor x."""
    found = await rows(
        process,
        "UPDATE dispatch SET executor_id = 'x', leased_at = clock_timestamp(), fence = fence + 1"
        " WHERE run_id = %s AND no = %s RETURNING fence",
        run, no,
    )  # fmt: skip
    return m.LeaseRef(run=run.bytes, no=no, fence=found[0][0])


def started(template: int) -> Callable[[Process], Awaitable[UUID]]:
    """A run that has begun."""
    return lambda process: start(process, template)


def leased(template: int) -> Callable[[Process], Awaitable[m.LeaseRef]]:
    """A run whose first step an executor holds."""

    async def prepare(process: Process) -> m.LeaseRef:
        return await lease(process, await start(process, template), 1)

    return prepare


async def ask(process: Process, handle: Callable[[Any], Awaitable[None]], message: m.Message) -> bytes:
    """Ask as an executor does, and wait for the answer."""
    sent = Message(message)
    await handle(sent)
    return await sent.answer


def reports(**outcome: Any) -> Callable[[Process, m.LeaseRef], Awaitable[None]]:
    """An executor reports."""

    async def act(process: Process, ref: m.LeaseRef) -> None:
        done = m.Outcome(run=ref.run, no=ref.no, fence=ref.fence, **outcome)
        await ask(process, process.executors._on_report, m.Report(executor="x", queues=("default",), outcomes=(done,)))

    return act


async def beats(process: Process, ref: m.LeaseRef) -> None:
    beat = m.Heartbeat(executor="x", name="x", queues=("default",), held=(ref,))
    await ask(process, process.executors._heartbeat, beat)


async def claims(process: Process, run: UUID) -> None:
    """An executor claims, and a step comes; a lease that never arrived is freed by heartbeats, and given again."""
    if await rows(process, "SELECT 1 FROM dispatch WHERE run_id = %s AND executor_id = 'y'", run):
        return
    process.dispatcher.ready(["default"], announce=False)
    await process.executors._on_claim(Message(m.Claim(executor="y", queues=("default",), generation=1, room=1)))
    while not any(subject.endswith(".leases") for subject, _ in process.bus.sent):
        await asyncio.sleep(0.005)


def commands(command: cmd.Command) -> Callable[[Process, UUID], Awaitable[None]]:
    """Somebody asks something of a run; asked again it may be refused, because it is done."""

    async def act(process: Process, run: UUID) -> None:
        try:
            await process.engine.command(CALLER, run, command, "why")
        except StateConflict as refusal:
            if refusal.metadata.get("reason", refusal.reason) not in ("RUN_STATE", "CALLBACK_ANSWERED"):
                raise

    return act


async def paused(process: Process) -> UUID:
    run = await start(process, 3)
    await process.engine.command(CALLER, run, cmd.Pause(), "")
    return run


async def failed(process: Process) -> UUID:
    run = await start(process, 1)
    for _ in range(2):
        ref = await lease(process, run, 1)
        await reports(failure=m.Failure(code="X", message="no"))(process, ref)
    await process.cycle.drain()
    return run


async def snapshot(process: Process) -> tuple[UUID, UUID]:
    run = await start(process, 7)
    ref = await lease(process, run, 2)
    await reports(output=b"1")(process, ref)
    return run, (await rows(process, "SELECT id FROM snapshots WHERE run_id = %s", run))[0][0]


async def rolls_back(process: Process, given: tuple[UUID, UUID]) -> None:
    if not await rows(process, "SELECT 1 FROM events WHERE run_id = %s AND type = 'run.rolled_back'", given[0]):
        await process.engine.rollback(CALLER, *given, "why")  # as somebody does who looks before asking again


async def forks(process: Process, given: tuple[UUID, UUID]) -> None:
    await process.engine.fork(CALLER, *given, None, "why", "key", b"h")


async def starts(process: Process, _: Any) -> None:
    await start(process, 2, "key")


async def starts_parent(process: Process, _: Any) -> None:
    await start(process, 6, "key")


async def signals(process: Process, run: UUID) -> None:
    await process.engine.signal(CALLER, run, "go", b"1", "why", "key")


async def answers(process: Process, run: UUID) -> None:
    with contextlib.suppress(StateConflict):  # it was answered already
        await process.engine.answer(run, cmd.Signal(signal=str(UUID(int=77)), name="callback:back", payload=b"1"))


async def decides(process: Process, run: UUID) -> None:
    gate = (await rows(process, "SELECT id FROM gates WHERE run_id = %s", run))[0][0]
    decider = Decider(
        principal_id=UUID(int=10), name="q", kind="person", roles=frozenset({"approver"}), groups=frozenset()
    )
    decided = await process.stored_gates.decide(OWNER, run, gate, decider=decider, outcome="approve")
    if decided.decision is not None:
        await process.gates.tell(gate)
        await process.cycle.drain()


async def sweeps(process: Process, _: Any) -> None:
    await process.sweeper.run_once()
    await process.cycle.drain()


async def loses(process: Process) -> UUID:
    run = await start(process, 2)
    await lease(process, run, 1)
    await rows(process, "UPDATE dispatch SET leased_at = leased_at - interval '1 hour' RETURNING 1")
    return run


async def child_ready(process: Process) -> m.LeaseRef:
    await start(process, 6)
    await process.settle()
    child = (await rows(process, "SELECT id FROM runs WHERE parent_run IS NOT NULL"))[0][0]
    return await lease(process, child, 1)


async def nothing(process: Process) -> None:
    """Nothing is there before."""


CASES = (
    Case("start", nothing, starts),
    Case("claim", started(2), claims),
    Case("report success", leased(2), reports(output=b"1")),
    Case("report failure", leased(2), reports(failure=m.Failure(code="X", message="no"))),
    Case("heartbeat", leased(2), beats),
    Case("decide gate", started(3), decides),
    Case("cancel", leased(2), lambda process, ref: commands(cmd.Cancel())(process, UUID(bytes=ref.run))),
    Case("pause", started(3), commands(cmd.Pause())),
    Case("resume", paused, commands(cmd.Resume())),
    Case("retry", failed, commands(cmd.Retry())),
    Case("rollback", snapshot, rolls_back),
    Case("fork", snapshot, forks),
    Case("signal", started(5), signals),
    Case("callback", started(5), answers),
    Case("timers", started(4), sweeps),
    Case("lost lease", loses, sweeps),
    Case("start of a child run", nothing, starts_parent),
    Case("end of a child run", child_ready, reports(output=b"1")),
)
