"""The API served over gRPC on a real store, with an engine that does what a test tells it to."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from psycopg import sql
from wfe.api.v1 import (
    system_service_pb2_grpc,
    template_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from wfe_engine.commands import Command
from wfe_scheduler.api.engine import StartedRun
from wfe_scheduler.api.system import SystemService
from wfe_scheduler.api.templates import TemplateService
from wfe_scheduler.api.workflows import WorkflowService
from wfe_servicekit.calls import Caller
from wfe_servicekit.testing import Refusal, Served, served
from wfe_stack.testing import database_template, database_url, postgres_server
from wfe_store.identity import Identity
from wfe_store.pool import Database
from wfe_store.templates import Templates

__all__ = ["database_template", "database_url", "postgres_server"]

NOW = dt.datetime(2026, 11, 24, 8, 30, 0, 250_000, dt.UTC)
TEMPLATE = uuid.UUID("0190163d-8694-739b-aea5-966c26f8ad91")
STARTER = uuid.UUID("0190163d-8694-739b-aea5-966c26f8ad92")

DEFAULTS: dict[str, dict[str, Any]] = {
    "runs": {
        "template_id": TEMPLATE, "template_name": "publish", "template_version": 3, "status": "running", "version": 1,
        "seq": 0, "state": "{}", "input": "{}", "trigger_type": "api", "created_by": STARTER, "created_at": NOW,
        "updated_at": NOW,
    },
    "steps": {"path": "fetch", "kind": "http", "status": "completed", "seq": 1, "created_at": NOW},
    "dispatch": {
        "path": "fetch", "kind": "http", "queue": "default", "request": "{}", "attempt": 1, "max_attempts": 3,
        "fence": 1, "available_at": NOW, "created_at": NOW,
    },
    "executors": {"name": "one", "queues": ["default"], "lease_until": NOW, "heartbeat_at": NOW, "started_at": NOW},
    "events": {"at": NOW, "type": "step.completed", "actor": "system", "data": "{}"},
    "snapshots": {"kind": "demand", "state": "{}", "created_at": NOW},
    "gates": {
        "no": 1, "path": "review", "status": "open", "title": "Publish?", "policy": "{}", "digest": "d",
        "started_by": STARTER, "created_at": NOW,
    },
}  # fmt: skip


#: Metadata Envoy adds to what came over REST; only then an answer says which HTTP status it has.
REST = [("x-envoy-original-path", "/api/v1/any")]


def plain(message: Any) -> dict[str, Any]:
    """A message as REST clients see it, but for fields that are empty."""
    return MessageToDict(message, preserving_proto_field_name=True)


def fields(refusal: Refusal) -> set[str]:
    """Fields a refusal finds fault with."""
    return {violation.field for violation in refusal.details["BadRequest"].field_violations}


class Nudges:
    """Wakes one watcher; answers never by itself, so a test that forgets to nudge hangs and fails."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.waiting = 0
        self.ended = False

    async def wait(self, timeout: float) -> bool:
        self.waiting += 1
        try:
            async with asyncio.timeout(timeout):
                await self.event.wait()
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        self.event.clear()
        return True


@dataclass
class FakeEngine:
    """Notes what it was asked, and does what the test gives it.

    Attributes:
        asked: Name and arguments of every call, in order.
        failure: Raised by every call that changes something.
        meanwhile: Awaited in such a call, before its answer: what the commit would do.
        started: Answer to starts and forks.
        watchers: By run, those who watch now.
        remembered: Runs that are in memory as ones that have not ended.
        parts: Answer to readiness.
        known: Answer to handlers.
    """

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    failure: Exception | None = None
    meanwhile: Callable[[], Any] | None = None
    started: StartedRun = field(
        default_factory=lambda: StartedRun(
            run_id=uuid.UUID("0190163d-8694-739b-aea5-966c26f8ad99"),
            template_id=TEMPLATE,
            template_name="publish",
            template_version=3,
            input={"tone": "plain", "token": {"$sealed": [{"var": "token"}]}},
            labels={"team": "red"},
            created_at=NOW.timestamp(),
            created_by=STARTER,
        )
    )
    snapshot_id: uuid.UUID = field(default_factory=uuid.uuid4)
    watchers: dict[uuid.UUID, list[Nudges]] = field(default_factory=dict)
    remembered: set[uuid.UUID] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=lambda: {"store": "ok", "bus": "ok"})
    known: frozenset[str] | None = None

    async def _do(self, name: str, *arguments: Any) -> None:
        self.asked.append((name, *arguments))
        if self.failure is not None:
            raise self.failure
        if self.meanwhile is not None:
            await self.meanwhile()

    async def start(self, caller: Caller, *arguments: Any) -> StartedRun:
        await self._do("start", *arguments)
        return self.started

    async def fork(self, caller: Caller, *arguments: Any) -> StartedRun:
        await self._do("fork", *arguments)
        return self.started

    async def command(self, caller: Caller, run_id: uuid.UUID, command: Command, reason: str) -> None:
        await self._do("command", run_id, command, reason)

    async def rollback(self, caller: Caller, *arguments: Any) -> None:
        await self._do("rollback", *arguments)

    async def snapshot(self, caller: Caller, *arguments: Any) -> uuid.UUID:
        await self._do("snapshot", *arguments)
        return self.snapshot_id

    def goes_on(self, owner_id: uuid.UUID, run_id: uuid.UUID) -> bool:
        return run_id in self.remembered

    @contextmanager
    def watch(self, run_id: uuid.UUID, *, ends: bool = False) -> Iterator[Nudges]:
        nudges = Nudges()
        self.watchers.setdefault(run_id, []).append(nudges)
        try:
            yield nudges
        finally:
            self.watchers[run_id].remove(nudges)

    def nudge(self, run_id: uuid.UUID) -> None:
        for nudges in self.watchers.get(run_id, []):
            nudges.event.set()

    def waiting(self, run_id: uuid.UUID) -> int:
        """How many wait for a nudge right now."""
        return sum(nudges.waiting for nudges in self.watchers.get(run_id, []))

    async def template_changed(self, template_id: uuid.UUID) -> None:
        await self._do("template_changed", template_id)

    async def readiness(self) -> dict[str, str]:
        return self.parts

    async def handlers(self) -> frozenset[str] | None:
        return self.known


class Api:
    """The served API with its stubs, two owners, and a way to write rows.

    Attributes:
        ann: Call metadata of acme's admin; `rival` of another owner's.
    """

    def __init__(self, server: Served, engine: FakeEngine, database: Database, owners: dict[str, uuid.UUID]) -> None:
        self.engine = engine
        self.database = database
        self.server = server.server
        self.workflows = workflow_service_pb2_grpc.WorkflowServiceStub(server.channel)
        self.templates = template_service_pb2_grpc.TemplateServiceStub(server.channel)
        self.system = system_service_pb2_grpc.SystemServiceStub(server.channel)
        self.owner_id = owners["acme"]
        self.principal_id = uuid.uuid4()
        self.ann = server.bearer("admin", owner_id=self.owner_id, principal_id=self.principal_id)
        self.rival = server.bearer("admin", owner_id=owners["rival"], owner="rival")

    async def insert(self, table: str, **given: Any) -> None:
        values = DEFAULTS[table] | given
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        async with self.database.connection() as connection:
            await connection.execute(statement, list(values.values()))

    async def execute(self, statement: str, *values: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement, values)

    async def run(self, **given: Any) -> uuid.UUID:
        moment: dt.datetime = given.get("created_at", NOW)
        stamp = int(moment.timestamp() * 1000) << 80
        run_id = uuid.UUID(int=stamp | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1)
        values = {"id": run_id, "owner_id": self.owner_id} | given
        await self.insert("runs", **values)
        return values["id"]

    async def event(self, run_id: uuid.UUID, seq: int, kind: str = "step.completed", **given: Any) -> None:
        """An event and the run's seq, as a commit writes them."""
        await self.insert("events", run_id=run_id, seq=seq, type=kind, **given)
        status = {"run.completed": "completed", "run.failed": "failed", "run.cancelled": "cancelled"}.get(kind)
        await self.execute("UPDATE runs SET seq = %s, status = coalesce(%s, status) WHERE id = %s", seq, status, run_id)


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    database = Database(database_url, name="wfe-test", size=6)
    await database.open()
    identity = Identity(database)
    owners = {name: (await identity.seed_owner(name)).owner_id for name in ("acme", "rival")}
    engine = FakeEngine()
    servicers = [
        (
            workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server,
            WorkflowService(engine, database),
            "wfe.api.v1.WorkflowService",
        ),
        (
            template_service_pb2_grpc.add_TemplateServiceServicer_to_server,
            TemplateService(engine, Templates(database)),
            "wfe.api.v1.TemplateService",
        ),
        (
            system_service_pb2_grpc.add_SystemServiceServicer_to_server,
            SystemService(engine),
            "wfe.api.v1.SystemService",
        ),
    ]
    async with served(servicers) as server:
        yield Api(server, engine, database, owners)
    await database.close()
