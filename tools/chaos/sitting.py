"""One sitting: load and faults for a while, quiet, and what the checker finds."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psycopg

from tools.chaos import reading
from tools.chaos.bed import Bed, make_bed
from tools.chaos.checker import Violation, check
from tools.chaos.history import History
from tools.chaos.killer import Killer
from tools.chaos.load import Load
from tools.chaos.recovery import Recovery, percentile

#: Seconds runs may take to end once nothing is broken any more.
QUIET_SECONDS = 180.0
#: What the pools of two schedulers, with their two cycles each, and of approvals may have open.
MOST_CONNECTIONS = 2 * (8 + 2) + 10


@dataclass(kw_only=True)
class Settings:
    """What a sitting is like.

    Attributes:
        seconds: How long faults go on.
        seed: Of faults and load.
        clients: Runs at once.
        lease_seconds: Of executors.
        executors: How many.
        pause: Seconds between faults, at most.
        postgres: Settings of the database server over the defaults.
        keep: Where to keep the history and the logs when something is found.
    """

    seconds: float
    seed: int
    clients: int = 48
    lease_seconds: float = 5.0
    executors: int = 4
    pause: float = 2.5
    postgres: Mapping[str, str] = field(default_factory=dict)
    keep: Path = Path("build/chaos")


@dataclass(kw_only=True)
class Result:
    """What came of a sitting."""

    history: History
    violations: list[Violation]
    kills: Counter[str]
    killed: int
    lost_answers: int
    recovery: Recovery
    faults: list[str]
    seconds: float


async def sit(settings: Settings) -> Result:
    """Do a sitting."""
    # Not under the present folder: the database's account may not enter that, and paths of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="wfe-chaos-"))
    await asyncio.to_thread(folder.chmod, 0o755)
    try:
        async with make_bed(
            folder,
            lease_seconds=settings.lease_seconds,
            executors=settings.executors,
            postgres=settings.postgres,
        ) as bed:
            result = await _sit(bed, settings)
        if result.violations:
            settings.keep.mkdir(parents=True, exist_ok=True)
            (settings.keep / "history.json").write_bytes(msgspec.json.encode(result.history))
            shutil.copytree(folder / "data" / "logs", settings.keep / "logs", dirs_exist_ok=True)
            shutil.copy(folder / "postgres" / "log", settings.keep / "logs" / "postgres.log")
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _sit(bed: Bed, settings: Settings) -> Result:
    history = History()
    load = Load(bed.url, bed.keys, bed.witness_url, history, clients=settings.clients, seed=settings.seed)
    recovery = Recovery(bed, load)
    killer = Killer(bed, recovery, seed=settings.seed, lease_seconds=settings.lease_seconds, pause=settings.pause)
    sampling = asyncio.create_task(_sample(bed, history))
    began = time.monotonic()
    try:
        load.begin(await bed.publish())
        await _warm(bed)
        history.most_connections = MOST_CONNECTIONS
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(settings.seconds, stop.set)
        await killer.run(stop)
        await load.finish(QUIET_SECONDS)
        await _quiet(bed)
    finally:
        sampling.cancel()
        await load.finish(0)
    async with await bed.connect() as store:
        await reading.read(store, history)
    history.calls = reading.read_calls(bed.calls)
    return Result(
        history=history,
        violations=check(history),
        kills=killer.kills,
        killed=killer.killed,
        lost_answers=bed.clients.lost + bed.store.lost,
        recovery=recovery,
        faults=load.faults,
        seconds=time.monotonic() - began,
    )


async def _sample(bed: Bed, history: History) -> None:
    """Look at the fences again and again, over every outage."""
    while True:
        try:
            async with await bed.connect() as store:
                while True:
                    history.fences += await reading.fences(store)
                    await asyncio.sleep(0.5)
        except psycopg.OperationalError:
            await asyncio.sleep(0.1)


async def _warm(bed: Bed) -> None:
    """Wait for the first runs to end, so that every connection there is under load has been made."""
    async with asyncio.timeout(60), await bed.connect() as store:
        while True:
            cursor = await store.execute("SELECT count(*) FROM runs WHERE ended_at IS NOT NULL")
            row = await cursor.fetchone()
            if row is not None and int(str(row[0])) >= 20:
                return
            await asyncio.sleep(0.1)


async def _quiet(bed: Bed) -> None:
    """Wait until nothing is under way, or it has been long enough; the checker says what is left."""
    deadline = time.monotonic() + QUIET_SECONDS
    async with await bed.connect() as store:
        while any((await reading.left(store)).values()) or (await reading.connections(store))[1]:
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.2)


def report(result: Result, settings: Settings) -> str:
    """What people read."""
    history, recovery = result.history, result.recovery
    ended = Counter(run.status for run in history.runs)
    lines = [
        f"seed {settings.seed}, {result.seconds:.0f} s, {settings.clients} clients, lease {settings.lease_seconds:g} s",
        f"runs: {len(history.runs)}, {', '.join(f'{count} {status}' for status, count in sorted(ended.items()))}",
        f"{len(history.events)} events, {len(history.calls)} calls at the witness",
        f"kills: {result.killed}, and {result.lost_answers} answers lost after the commit",
        *(f"  {kind:<40} {count}" for kind, count in sorted(result.kills.items())),
        _times("executor killed: until each of its steps was leased anew", recovery.executor),
        _times("NATS wiped: until a step began after it accepted again", recovery.bus),
        _times("Postgres killed: until a start succeeded after it accepted again", recovery.store),
        f"calls that clients gave up: {len(result.faults)}",
        *(f"  {fault}" for fault in result.faults[:10]),
        f"violations: {len(result.violations)}",
        *(f"  {v.check}: {v.run} {v.what}"[:400] for v in result.violations[:40]),
    ]
    return "\n".join(lines)


def _times(what: str, values: list[float]) -> str:
    if not values:
        return f"{what}: not measured"
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    return f"{what}: p50 {p50:.2f} s, p99 {p99:.2f} s, most {max(values):.2f} s of {len(values)}"
