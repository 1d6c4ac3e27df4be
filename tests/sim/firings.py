"""Schedules and their firings on the simulated store: `wfe_store.firings` as schedulers call it."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

from wfe_engine.state import ENDED
from wfe_store.firings import CLOCK_BACK_SECONDS, MOST_CAUGHT_UP, Judged
from wfe_store.schedules import Schedule, Terms

from tests.sim.store import Database
from tests.sim.tables import Tables

SCHEDULE = UUID(int=300)
#: A firing that something must still come of.
OPEN = ("due", "starting")


def moment(seconds: float) -> dt.datetime:
    """A moment of Unix seconds."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def add_schedule(tables: Tables, rng: random.Random, owner: UUID, principal: UUID, template: UUID, now: float) -> None:
    """A schedule that is due every minute."""
    terms = Terms(
        name="every minute", template_id=template, version=None, input="{}", labels="{}", cron="* * * * *",
        time_zone="UTC", overlap=rng.choice(("skip", "queue", "cancel", "allow")),
        catch_up_seconds=rng.choice((0, 5, 60)),
    )  # fmt: skip
    at = moment(now)
    made = Schedule(
        id=SCHEDULE, owner_id=owner, terms=terms, revision=1, next_at=moment(now // 60 * 60 + 60), reckoned_at=at,
        paused_at=None, created_by=principal, starter=principal, created_at=at, updated_at=at,
    )  # fmt: skip
    tables.transaction(lambda: tables.put("schedules", SCHEDULE, _row(made)))


def _row(schedule: Schedule) -> dict[str, Any]:
    return {name: getattr(schedule, name) for name in Schedule.__dataclass_fields__}


class Firings:
    """`wfe_store.firings.Firings`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _do(self, work: Callable[[Tables, float], Any]) -> Any:
        async with self._database.connection() as connection:
            return await connection.do(work)

    async def pending(self) -> tuple[list[UUID], list[UUID]]:
        def work(tables: Tables, now: float) -> Any:
            back = moment(now + CLOCK_BACK_SECONDS)
            due = [
                id_ for id_, row in tables["schedules"].items()
                if row["next_at"] is not None and (row["next_at"] <= moment(now) or row["reckoned_at"] > back)
            ]  # fmt: skip
            return due, sorted({key[0] for key, row in tables["firings"].items() if row["status"] in OPEN})

        return await self._do(work)

    async def reckon(self, schedule_id: UUID, cron: Any) -> int:
        def work(tables: Tables, now: float) -> int:
            row = tables["schedules"][schedule_id]
            if row["next_at"] is None:
                return 0
            after, newest = cron(row["terms"])
            happens: list[dt.datetime] = []
            if row["next_at"] <= moment(now):
                late = row["terms"].catch_up_seconds
                found = newest(row["next_at"], moment(now), MOST_CAUGHT_UP)
                happens = [at for at in found if (moment(now) - at).total_seconds() <= late]
                if not happens or happens[0] > row["next_at"]:
                    self._insert(tables, schedule_id, [row["next_at"]], "missed")
                self._insert(tables, schedule_id, happens, "due")
            tables.change("schedules", schedule_id, next_at=after(moment(now)), reckoned_at=moment(now))
            return len(happens)

        return int(await self._do(work))

    @staticmethod
    def _insert(tables: Tables, schedule_id: UUID, moments: list[dt.datetime], status: str) -> None:
        for at in moments:
            if (schedule_id, at) not in tables["firings"]:
                tables.put("firings", (schedule_id, at), {"status": status, "run": None})

    async def judge(self, schedule_id: UUID) -> Judged | None:
        def work(tables: Tables, _: float) -> Judged | None:
            schedule = Schedule(**tables["schedules"][schedule_id])
            firings = tables["firings"]
            open_ = sorted(key for key in tables.of_run("firings", schedule_id) if firings[key]["status"] in OPEN)
            if not open_:
                return None
            at = open_[0][1]
            if firings[open_[0]]["status"] == "starting":
                return Judged(schedule, at)
            policy = schedule.terms.overlap
            active = () if policy == "allow" else self._active(tables, schedule_id)
            if active and policy == "skip":
                tables.change("firings", open_[0], status="skipped")
                return None
            if active:
                for key in open_[1:]:
                    tables.change("firings", key, status="skipped")
                return Judged(schedule, at, active) if policy == "cancel" else None
            tables.change("firings", open_[0], status="starting")
            return Judged(schedule, at)

        return await self._do(work)  # type: ignore[no-any-return]

    @staticmethod
    def _active(tables: Tables, schedule_id: UUID) -> tuple[UUID, ...]:
        rows = [tables["firings"][key] for key in sorted(tables.of_run("firings", schedule_id))]
        runs = [row["run"] for row in rows if row["status"] == "started"]
        return tuple(run for run in runs if tables["runs"][run]["status"] not in ENDED)

    async def started(self, schedule_id: UUID, at: dt.datetime, run: UUID) -> None:
        await self._conclude(schedule_id, at, "started", run)

    async def failed(self, schedule_id: UUID, at: dt.datetime, reason: str) -> None:
        await self._conclude(schedule_id, at, "failed", None)

    async def _conclude(self, schedule_id: UUID, at: dt.datetime, status: str, run: UUID | None) -> None:
        def work(tables: Tables, _: float) -> None:
            if tables["firings"][schedule_id, at]["status"] == "starting":
                tables.change("firings", (schedule_id, at), status=status, run=run)

        await self._do(work)

    async def may_start(self, schedule: Schedule) -> bool:
        return bool(await self._do(lambda _tables, _now: True))
