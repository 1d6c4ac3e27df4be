"""The run store as schedulers and approvals call it: every statement takes a while, and can fail before or after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from wfe_engine.errors import Unavailable
from wfe_store import children as real_children
from wfe_store import leases as real
from wfe_store.commit import Unknown

from tests.sim.bus import Faults
from tests.sim.machine import Process, SimLoop
from tests.sim.tables import Tables


class Store:
    """The tables and their clock, which can jump.

    Attributes:
        wrong: Seconds the store's clock is off.
    """

    def __init__(self, loop: SimLoop, tables: Tables, faults: Faults) -> None:
        self.loop, self.tables, self.faults = loop, tables, faults
        self.wrong = 0.0

    def now(self) -> float:
        """clock_timestamp()."""
        return round(1_700_000_000.0 + self.loop.time() + self.wrong, 6)

    async def statement(self, process: Process, work: Callable[[], Any], fault: Callable[[str], Exception]) -> Any:
        """One transaction: it happens or not, and its answer arrives or not."""
        await process.pass_through()
        chance = process.rng.random()
        down = self.faults.store_down_until > self.loop.time()
        if down or chance < self.faults.refused:
            raise fault("before")
        unknown = chance < self.faults.refused + self.faults.unknown
        if unknown and process.rng.random() < 0.5:
            raise fault("unknown")
        result = work()
        await process.pass_through()
        if unknown:
            raise fault("unknown")
        return result


class Database:
    """`wfe_store.pool.Database` of one process."""

    def __init__(self, store: Store, process: Process) -> None:
        self.store, self.process = store, process

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        await self.process.alive()
        yield Connection(self.store, self.process)


class Connection:
    """A connection: statements by what they do."""

    def __init__(self, store: Store, process: Process) -> None:
        self.store, self.process = store, process

    async def do(self, work: Callable[[Tables, float], Any]) -> Any:
        """One statement."""
        tables = self.store.tables
        return await self.store.statement(
            self.process,
            lambda: tables.transaction(lambda: work(tables, self.store.now())),
            lambda _: Unavailable("the run store is down; try again", reason="STORE_DOWN"),
        )

    async def execute(self, query: str) -> Any:
        """The clock's question."""
        assert "clock_timestamp" in query
        now = await self.do(lambda _, now: now)

        class Cursor:
            async def fetchone(self) -> tuple[float]:
                return (now,)

        return Cursor()


class Wire:
    """A connection for commits."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Commits:
    """`wfe_store.commit` as cycles call it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def connect(self, process: Any, _name: str) -> Wire:
        await process.pass_through()
        faults = self._store.faults
        if faults.store_down_until > self._store.loop.time() or process.rng.random() < faults.refused:
            raise psycopg.OperationalError("the server does not answer")
        return Wire(process)

    async def commit(self, wire: Wire, batch: Any) -> Any:
        def fault(_: str) -> Exception:
            wire.closed = True
            return Unknown("the connection broke")

        return await self._store.statement(wire.process, lambda: self._store.tables.commit(batch), fault)


class Leases:
    """`wfe_store.leases` as schedulers call it."""

    FAILING_SECONDS = real.FAILING_SECONDS

    async def claim(self, connection: Connection, executor: str, queue: str, room: int) -> list[real.ClaimedStep]:
        def work(tables: Tables, now: float) -> list[real.ClaimedStep]:
            ready = [
                (key, row)
                for key, row in tables["dispatch"].items()
                if row["executor"] is None and not row["held"] and row["queue"] == queue and row["available_at"] <= now
            ]
            ready.sort(key=lambda found: (-found[1]["priority"], found[1]["available_at"], found[0]))
            claimed = []
            for key, row in ready[:room]:
                leased = {"executor": executor, "leased_at": now, "fence": row["fence"] + 1, "queue_deadline": None}
                tables.change("dispatch", key, **leased)
                claimed.append(
                    real.ClaimedStep(
                        run=key[0], no=key[1], fence=row["fence"] + 1, owner=row["owner"], path=row["path"],
                        iteration=row["iteration"], visit=row["visit"], epoch=row["epoch"], kind=row["kind"],
                        request=row["request"], sealed=row["sealed"], attempt=row["attempt"],
                        max_attempts=row["max_attempts"], clocks=msgspec.json.encode(row["clocks"]).decode(),
                        total_deadline=row["total_deadline"], approval=str(row["approval"] or ""), digest=row["digest"],
                    )
                )  # fmt: skip
            return claimed

        return await connection.do(work)

    async def heartbeat(
        self, connection: Connection, *, executor: str, lease_seconds: float, held: Any, stopping: bool, **_: Any
    ) -> Any:
        def work(tables: Tables, now: float) -> Any:
            tables.put("executors", executor, {"lease_until": now + lease_seconds, "stopping": stopping})
            rows = {(*key, row["fence"]): row for key, row in tables["dispatch"].items() if row["executor"] == executor}
            listed = set(held)
            old = now - real.ARRIVAL_SECONDS
            missing = [key for key, row in rows.items() if row["leased_at"] < old and key not in listed]
            return [real.Held(*key) for key in held if key not in rows], self._release(tables, now, missing)

        return await connection.do(work)

    async def release(self, connection: Connection, leases: Any) -> list[str]:
        return await connection.do(lambda tables, now: self._release(tables, now, leases))

    def _release(self, tables: Tables, now: float, leases: Any) -> list[str]:
        queues = set()
        for run, no, fence in leases:
            row = tables["dispatch"].get((run, no))
            if row is not None and row["fence"] == fence and row["executor"] is not None:
                tables.put("dispatch", (run, no), self._freed(tables, run, row, now))
                queues.add(row["queue"])
        return sorted(queues)

    @staticmethod
    def _freed(tables: Tables, run: UUID, row: dict[str, Any], now: float) -> dict[str, Any]:
        at = now
        if row["held"]:
            at = msgspec.json.decode(tables["runs"][run]["state"]).get("paused_at") or now
        queue = row["clocks"].get("queue")
        return {
            **row, "executor": None, "leased_at": None, "fence": row["fence"] + 1, "available_at": at,
            "queue_deadline": None if queue is None else at + queue,
        }  # fmt: skip

    async def reap(self, connection: Connection, lease_seconds: float, lease_losses: int) -> Any:
        def work(tables: Tables, now: float) -> Any:
            dead = sorted(name for name, row in tables["executors"].items() if row["lease_until"] < now)
            lost = []
            for key, row in list(tables["dispatch"].items()):
                executor = row["executor"]
                orphan = executor is not None and executor not in tables["executors"]
                if executor in dead or (orphan and row["leased_at"] < now - lease_seconds):
                    losses = row["lease_losses"] + 1
                    freed = self._freed(tables, key[0], row, now) | {"lease_losses": losses}
                    freed["available_at"] += real.FAILING_SECONDS if losses >= lease_losses else 0
                    tables.put("dispatch", key, freed)
                    lost.append(real.LostLease(*key, freed["fence"], losses, row["queue"], executor))
            for name in dead:
                tables.put("executors", name, None)
            return lost, sorted({*dead, *(lease.executor for lease in lost)})

        return await connection.do(work)

    async def sweep(self, connection: Connection) -> real.Due:
        def work(tables: Tables, now: float) -> real.Due:
            rows = sorted(tables["dispatch"].items())
            free = [(key, row) for key, row in rows if not row["held"] and row["executor"] is None]
            return real.Due(
                timers=[(*key, row["due"]) for key, row in sorted(tables["timers"].items()) if row["due"] <= now],
                queue_clocks=[(*k, r["fence"]) for k, r in free if r["queue_deadline"] and r["queue_deadline"] <= now],
                total_clocks=[
                    (*key, row["fence"])
                    for key, row in rows
                    if not row["held"] and row["total_deadline"] and row["total_deadline"] <= now
                ],
                ready=sorted({row["queue"] for _, row in free if row["available_at"] <= now}),
            )

        return await connection.do(work)

    async def fences(self, connection: Connection, steps: Any) -> dict[tuple[UUID, int], int]:
        return await connection.do(
            lambda tables, _: {key: tables["dispatch"][key]["fence"] for key in steps if key in tables["dispatch"]}
        )


class Children:
    """`wfe_store.children` as schedulers call it."""

    async def overdue_wishes(self, connection: Connection, seconds: float) -> list[real_children.Wish]:
        return await connection.do(
            lambda tables, now: [
                real_children.Wish(
                    *key, row["child"], row["wish"], row["request"], row["owner"], row["started_by"]
                )
                for key, row in sorted(tables["children"].items())
                if not row["done"] and row["wished_at"] < now - seconds
            ]
        )  # fmt: skip

    async def carried_out(self, connection: Connection, wish: real_children.Wish) -> None:
        def work(tables: Tables, _: float) -> None:
            row = tables["children"].get((wish.run, wish.no))
            if row is not None and row["child"] == wish.child and row["wish"] == wish.wish:
                over = wish.wish in ("cancel", "terminate")
                tables.put("children", (wish.run, wish.no), None if over else {**row, "done": True})

        await connection.do(work)

    async def ended_children(self, connection: Connection, children: Any) -> list[real_children.Ended]:
        def work(tables: Tables, _: float) -> list[real_children.Ended]:
            found = []
            for key, row in sorted(tables["children"].items()):
                run = tables["runs"].get(row["child"])
                ended = row["ended"] and run is not None and run["ended_at"] is not None
                if ended and (children is None or row["child"] in children):
                    told = (run["status"], run["reason"], run["output"], run["error"])
                    found.append(real_children.Ended(*key, row["child"], *told))
            return found

        return await connection.do(work)

    async def note_end(self, connection: Connection, child: UUID) -> None:
        def work(tables: Tables, _: float) -> None:
            run = tables["runs"].get(child)
            for key, row in list(tables["children"].items()):
                ended = row["child"] == child and run is not None and run["ended_at"] is not None
                if ended and row["wish"] in ("start", "retry"):
                    tables.change("children", key, ended=True)

        await connection.do(work)


async def dispatch_held(connection: Connection) -> None:
    """`wfe_store.switches.dispatch_held`: nobody holds it here."""
    await connection.do(lambda _tables, _now: None)


async def never() -> None:
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()
