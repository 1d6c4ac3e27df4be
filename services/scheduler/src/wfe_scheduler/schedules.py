"""Starting the runs of schedules: the schedulers' share of firings, which the store keeps count of.

Every scheduler looks once a second. That several do, or that one dies between any two steps, changes nothing: see
`wfe_store.firings`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

import msgspec
import structlog
from wfe_engine import commands as cmd
from wfe_engine.errors import InvalidInput, NotFound, ResourceExhausted, StateConflict, Unavailable, WfeError
from wfe_language import check_input
from wfe_servicekit.calls import Caller
from wfe_servicekit.telemetry.tracing import span
from wfe_store.firings import Firings, Judged, Newest
from wfe_store.schedules import Reckon, Schedule, Terms

from wfe_scheduler.api.engine import StartedRun, StartOptions
from wfe_scheduler.cron import Cron
from wfe_scheduler.plans import Published

#: Schedules served at once.
AT_ONCE = 16
#: Told apart from every key of a client: those are printable.
KEY = "schedule\x1f{id}\x1f{at}"
_BODY = b"schedule"

_log = structlog.get_logger("wfe.scheduler.schedules")


class Starts(Protocol):
    """What the engine is asked for here."""

    async def start(
        self,
        caller: Caller,
        template_id: UUID,
        version: int | None,
        input: dict[str, Any],  # noqa: A002 - the contract's word
        labels: dict[str, str],
        idempotency_key: str | None,
        body_hash: bytes,
        options: StartOptions,
    ) -> StartedRun:
        """Start a run; the same key starts one."""
        ...

    async def command(self, caller: Caller, run_id: UUID, command: cmd.Command, reason: str, *, actor: str) -> None:
        """Do something to a run."""
        ...

    async def published(self, owner: UUID, template: UUID, version: int | None) -> Published:
        """The version of a template that a start would take."""
        ...


@lru_cache(maxsize=4096)
def _cron(expression: str, zone: str) -> Cron:
    return Cron(expression, zone)


def reckon(terms: Terms) -> Reckon:
    """Gives the first firing after a moment."""
    return _cron(terms.cron, terms.time_zone).after


def _reckoning(terms: Terms) -> tuple[Reckon, Newest]:
    cron = _cron(terms.cron, terms.time_zone)
    return cron.after, cron.newest


def check_scheduled(published: Published, given: dict[str, Any]) -> None:
    """Refuse input that the runs of a schedule could not be started with.

    Raises:
        InvalidInput: With every violation; sensitive variables are one: a schedule's input is kept as it is.
    """
    _, violations = check_input(published.plan.variables, given)
    if violations:
        raise InvalidInput(violations, reason="INVALID_RUN_INPUT")
    sealed = [variable.name for variable in published.plan.variables if variable.sensitive and variable.name in given]
    if sealed:
        raise InvalidInput(
            "is sensitive, and a schedule cannot be given it: let the template use a secret",
            field=f"input.{sealed[0]}",
            reason="INVALID_RUN_INPUT",
        )


class Scheduling:
    """Carries out what schedules ask for.

    Args:
        firings: The store's count of them.
        engine: Starts and cancels runs.
    """

    def __init__(self, firings: Firings, engine: Starts) -> None:
        self._firings = firings
        self._engine = engine

    async def run_once(self) -> None:
        """One bounded pass.

        Raises:
            Unavailable: The store cannot be read.
        """
        due, open_ = await self._firings.pending()
        room = asyncio.Semaphore(AT_ONCE)

        async def serve(schedule: UUID, *, is_due: bool) -> None:
            async with room:
                try:
                    if is_due:
                        await self._firings.reckon(schedule, _reckoning)
                    await self._serve(schedule)
                except (Unavailable, ResourceExhausted):
                    raise
                except Exception as fault:  # noqa: BLE001 - one schedule must not keep the others
                    _log.error("schedule not served", schedule=str(schedule), fault=str(fault)[:300])

        wanted = set(due)
        results = await asyncio.gather(
            *(serve(schedule, is_due=True) for schedule in due),
            *(serve(schedule, is_due=False) for schedule in open_ if schedule not in wanted),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _serve(self, schedule: UUID) -> None:
        while (judged := await self._firings.judge(schedule)) is not None:
            if judged.cancel:
                await self._cancel(judged)
                return
            await self._start(judged)

    async def _cancel(self, judged: Judged) -> None:
        schedule = judged.schedule
        for run in judged.cancel:
            try:
                await self._engine.command(
                    _behind(schedule), run, cmd.Cancel(), f"the firing of {judged.at:%FT%TZ} takes its place",
                    actor=f"schedule:{schedule.id}",
                )  # fmt: skip
            except (StateConflict, NotFound):
                continue  # it has just ended

    async def _start(self, judged: Judged) -> None:
        schedule, at = judged.schedule, judged.at
        try:
            if not await self._firings.may_start(schedule):
                raise StateConflict("the principal behind it is disabled", reason="STARTER_DISABLED")
            given = msgspec.json.decode(schedule.terms.input)
            terms = schedule.terms
            published = await self._engine.published(schedule.owner_id, terms.template_id, terms.version)
            check_scheduled(published, given)
            # No call begins the trace of its run, so this does.
            with span("schedule fires", **{"wfe.schedule": str(schedule.id)}):
                started = await self._engine.start(
                    _behind(schedule),
                    terms.template_id,
                    terms.version,
                    given,
                    msgspec.json.decode(terms.labels),
                    KEY.format(id=schedule.id, at=at.astimezone(dt.UTC).isoformat()),
                    _BODY,
                    StartOptions(
                        trigger="schedule",
                        actor=f"schedule:{schedule.id}",
                        reason=f"schedule {terms.name}, firing of {at:%FT%TZ}",
                    ),
                )
        except (Unavailable, ResourceExhausted):
            raise  # the next pass tries again
        except WfeError as refusal:
            _log.warning("firing refused", schedule=str(schedule.id), at=at.isoformat(), reason=refusal.reason)
            await self._firings.failed(schedule.id, at, f"{refusal.reason}: {refusal.message}"[:1000])
            return
        await self._firings.started(schedule.id, at, started.run_id)


def _behind(schedule: Schedule) -> Caller:
    """The principal behind a schedule, as whom its runs are started; roles are nothing the engine looks at."""
    return Caller(
        owner_id=schedule.owner_id,
        owner="",
        principal_id=schedule.starter,
        principal="",
        kind="",
        roles=frozenset(),
        groups=frozenset(),
    )
