"""`wfe doctor`: look at a deployment part by part, and say what helps."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer
from wfe_stack.faults import StackFault
from wfe_stack.folder import read_address
from wfe_stack.lazily import Lazily
from wfe_stack.rest import RestFault

from wfe_cli.commands import command, target
from wfe_cli.faults import Failed

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = Lazily("aiohttp")

#: Seconds one look may take.
_SECONDS = 10.0
#: Seconds this machine's clock may differ from the run store's before somebody should know.
_SKEW = 5.0
#: Seconds something that is looked for every second may be late before somebody should know.
_LATE = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found.

    Attributes:
        part: Of the deployment.
        good: Whether it is as it should be; None when it was not looked at.
        said: What was seen.
        action: What helps; empty when all is well.
    """

    part: str
    good: bool | None
    said: str
    action: str = ""


Look = Callable[[], AsyncIterator[Finding]]


def register(app: typer.Typer) -> None:
    """Add the command to an app."""

    @command(app, "doctor")
    async def doctor() -> None:
        """Check every part of a deployment, and say what helps.

        The gateway is the one of --url or of the engine in the data folder. WFE_DATABASE_URL, and WFE_NATS_URL with
        WFE_NATS_USER and WFE_NATS_PASSWORD, name the run store and the bus; a local engine's are found by themselves.
        """
        address = read_address(target().home)
        database = os.environ.get("WFE_DATABASE_URL") or address.get("database")
        looks: list[tuple[str, Callable[[], AsyncIterator[Finding]]]] = [
            ("gateway", _gateway),
            ("key", _key),
            ("run store", lambda: _store(str(database or ""))),
            ("bus", lambda: _bus(str(os.environ.get("WFE_NATS_URL") or address.get("nats") or ""))),
            ("metrics", lambda: _metrics(dict(address.get("metrics") or {}))),
        ]
        bad = 0
        for part, look in looks:
            for finding in await _looked(part, look):
                mark = {True: "ok  ", False: "FAIL", None: "-   "}[finding.good]
                print(f"{mark} {finding.part}: {finding.said}")
                if finding.action:
                    print(f"       {finding.action}")
                bad += finding.good is False
        if bad:
            raise Failed(f"{bad} of the above need somebody")


async def _looked(part: str, look: Look) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(_SECONDS):
            async for finding in look():
                found.append(finding)  # noqa: PERF401 - what was found before a failure is shown
    except TimeoutError:
        found.append(Finding(part, False, f"no answer within {_SECONDS:g} s", "is it up, and reachable from here?"))
    except Exception as fault:  # noqa: BLE001 - a doctor does not die of what it finds
        line = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        found.append(Finding(part, False, line, "is it up, and reachable from here?"))
    return found


async def _gateway() -> AsyncIterator[Finding]:
    url = target().address()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
        async with session.get(f"{url}/healthz") as answer:
            good = answer.status == 200
            yield Finding("gateway", good, f"{url} answers {answer.status}", "" if good else "is this the gateway?")
        async with session.get(f"{url}/readyz") as answer:
            body = await answer.json(content_type=None)
    parts: dict[str, Any] = body.get("parts") or next(
        (d.get("metadata", {}) for d in body.get("details", ()) if "metadata" in d), {}
    )
    if not parts:
        yield Finding("schedulers", False, str(body.get("message", body)), "no scheduler answers: see their logs")
    advice = {
        "store": "schedulers do not reach Postgres: WFE_DATABASE_URL, network, max_connections",
        "bus": "schedulers do not reach NATS: WFE_NATS_URL, credentials, network",
        "approvals": "no approvals service answers on the bus: see its logs",
        "executors": "no executor is live: start one; see its logs",
    }
    for name, said in sorted(parts.items()):
        yield Finding(f"ready: {name}", said == "ok", str(said), "" if said == "ok" else advice.get(name, ""))


async def _key() -> AsyncIterator[Finding]:
    try:
        rest = target().caller(None, "root")
    except StackFault:
        yield Finding("key", None, "none at hand; set WFE_API_KEY to have one checked")
        return
    async with rest:
        try:
            who = await rest.get("/api/v1/self")
        except RestFault as fault:
            yield Finding("key", False, str(fault), "make another with `wfe keys create`, or set WFE_API_KEY")
            return
    roles = ", ".join(who.get("roles", ())) or "no role"
    name = (who.get("principal") or {}).get("name") or who.get("name") or "somebody"
    yield Finding("key", True, f"is {name}'s: {roles}")


async def _store(url: str) -> AsyncIterator[Finding]:
    if not url:
        yield Finding("run store", None, "set WFE_DATABASE_URL to have it looked at")
        return
    from wfe_store import retention, switches, watching
    from wfe_store.migrate import PARTITIONED, known, newest

    async with retention.connect(url) as connection:

        async def one(query: str, *params: object) -> Any:
            row = await (await connection.execute(query, params)).fetchone()
            return row[0] if row else None

        version = int(await one("SELECT current_setting('server_version_num')"))
        yield Finding(
            "run store",
            version >= 150_000,
            f"PostgreSQL {version // 10_000}.{version % 10_000}",
            "" if version >= 150_000 else "the engine needs PostgreSQL 15 or newer",
        )
        if await one("SELECT to_regclass('alembic_version')") is None:
            yield Finding("schema", False, "the database is empty", "run wfe-migrate")
            return
        schema, head = await one("SELECT version_num FROM alembic_version"), newest()
        if known(schema):
            yield Finding(
                "schema", schema == head, f"{schema}", "" if schema == head else f"run wfe-migrate: {head} is due"
            )
        else:
            yield Finding("schema", True, f"{schema}, of a later version than this one")
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            value = await one("SELECT current_setting(%s)", name)
            bad = value == "off"
            yield Finding(name, not bad, value, "a crash of the server would lose what was answered" if bad else "")
        skew = abs(float(await one("SELECT extract(epoch FROM clock_timestamp())::float8")) - time.time())
        yield Finding(
            "clock", skew < _SKEW, f"{skew:.1f} s from this machine's", "" if skew < _SKEW else "mend the clocks (NTP)"
        )
        used, most = await one("SELECT count(*) FROM pg_stat_activity"), int(await one("SHOW max_connections"))
        tight = used > 0.9 * most
        yield Finding("connections", not tight, f"{used} of {most}", "raise max_connections" if tight else "")
        oldest = await watching.oldest_transaction(connection)
        long = oldest > 300
        yield Finding(
            "transactions",
            not long,
            f"the oldest is {oldest:.0f} s old",
            "it keeps vacuum from its work" if long else "",
        )
        ahead = await watching.months_ahead(connection)
        yield Finding(
            "partitions", ahead >= 2, f"{ahead} months ahead", "" if ahead >= 2 else "wfe admin partitions make"
        )
        stray = {
            table: count for table, count in (await watching.stray_rows(connection, list(PARTITIONED))).items() if count
        }
        yield Finding("stray rows", not stray, str(stray or "none"), "wfe admin partitions make" if stray else "")
        held = await switches.dispatch_held(connection)
        yield Finding(
            "dispatch",
            held is None,
            "is not held" if held is None else f"held by {held.set_by}: {held.reason}",
            "" if held is None else "wfe admin dispatch release",
        )
        for queue, (taking, stopping) in sorted((await watching.executors(connection)).items()):
            yield Finding(f"queue {queue}", taking > 0, f"{taking} executors, {stopping} stopping")
        served = set(await watching.executors(connection))
        for waiting in await watching.queues(connection):
            if waiting.ready and waiting.name not in served:
                yield Finding(
                    f"queue {waiting.name}",
                    False,
                    f"{waiting.ready} steps wait and no executor serves it",
                    f"start executors with WFE_EXECUTOR_QUEUES={waiting.name}",
                )
        late = max(await watching.timers_late(connection), await watching.children_late(connection))
        yield _punctual("timers", late, "", "are schedulers up, and do they keep up (wfe_commands_waiting)?")
        gates = await watching.open_gates(connection)
        yield _punctual(
            "gates",
            gates.oldest_untold,
            f"{gates.count} open; ",
            "are schedulers up and reached? Approvals tells again",
        )
        told = await watching.told(connection)
        states = ", ".join(f"{count} {state}" for state, count in told.webhooks.items() if count) or "none"
        yield _punctual(
            "webhooks",
            max(told.outbox_oldest, told.due_oldest),
            f"{states}; ",
            "are approvals services up? Is WFE_WEBHOOK_IN_ALL used up by slow receivers?",
        )
        stuck = await watching.stuck_runs(connection)
        yield Finding(
            "stuck runs", not stuck, f"{len(stuck)}", "wfe runs explain RUN; wfe admin stuck" if stuck else ""
        )


def _punctual(part: str, late: float, said: str, action: str) -> Finding:
    good = late < _LATE
    return Finding(part, good, f"{said}nothing is late" if good else f"{said}{late:.0f} s late", "" if good else action)


async def _bus(urls: str) -> AsyncIterator[Finding]:
    if not urls:
        yield Finding("bus", None, "set WFE_NATS_URL to have it looked at")
        return
    for url in urls.split(","):
        parts = urlsplit(url.strip())
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
        try:
            # A NATS server says who it is before anybody asks.
            line = (await reader.readline()).decode("utf-8", "replace")
        finally:
            writer.close()
        good = line.startswith("INFO ")
        yield Finding(
            "bus", good, f"{parts.hostname}:{parts.port or 4222} {'answers' if good else 'is no NATS server'}"
        )


async def _metrics(urls: dict[str, str]) -> AsyncIterator[Finding]:
    if not urls:
        yield Finding("metrics", None, "where they are is not known here; see WFE_METRICS_PORT")
        return
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
        for part, url in urls.items():
            async with session.get(url) as answer:
                yield Finding(f"metrics: {part}", answer.status == 200, f"{url} answers {answer.status}")
