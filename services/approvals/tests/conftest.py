"""The whole service over real gRPC, Postgres and NATS, with keys of real principals."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import nats
import pytest
from nats.aio.client import Client
from wfe.api.v1 import approval_service_pb2_grpc, identity_service_pb2_grpc, webhook_service_pb2_grpc
from wfe_approvals.app import serve
from wfe_approvals.config import ApprovalsSettings
from wfe_servicekit.auth import new_key
from wfe_servicekit.lifecycle import Stack
from wfe_servicekit.server import RunningServer
from wfe_servicekit.testing import bearer
from wfe_stack.testing import database_template, database_url, nats_url, postgres_server
from wfe_stack.testing_receivers import Receivers
from wfe_stack.testing_rows import add_gate, add_run
from wfe_store.identity import Identity, SeedPrincipal
from wfe_store.keys import Fresh, Keys
from wfe_store.pool import Database

__all__ = ["database_template", "database_url", "nats_url", "postgres_server"]

PEOPLE = [
    SeedPrincipal("root", roles=("admin",)),
    SeedPrincipal("starter", roles=("operator", "approver")),
    SeedPrincipal("ada", roles=("approver",), groups=("editors",)),
    SeedPrincipal("bob", roles=("approver",)),
    SeedPrincipal("vic", roles=("viewer",)),
    SeedPrincipal("bot", kind="service", roles=("approver",)),
]

Metadata = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WFE_"):
            monkeypatch.delenv(name)


@dataclass
class World:
    """The service, its clients, and two owners with the same people.

    Attributes:
        database: To look behind the service.
        approvals, identity: Stubs.
        server: The running server.
        owners: Owner ids by name, acme and rival.
        people: Principal ids by owner and name.
    """

    database: Database
    approvals: approval_service_pb2_grpc.ApprovalServiceStub
    identity: identity_service_pb2_grpc.IdentityServiceStub
    webhooks: webhook_service_pb2_grpc.WebhookServiceStub
    hooks: webhook_service_pb2_grpc.HookServiceStub
    server: RunningServer
    owners: dict[str, uuid.UUID]
    people: dict[tuple[str, str], uuid.UUID]
    _keys: dict[tuple[str, str], Metadata] = field(default_factory=dict)

    async def as_(self, name: str, owner: str = "acme") -> Metadata:
        """Call metadata with a key of that person."""
        if (owner, name) not in self._keys:
            fresh = new_key()
            await Keys(self.database).create(
                self.owners[owner], self.people[owner, name], Fresh(fresh.key_id, fresh.hash)
            )
            self._keys[owner, name] = bearer(fresh.text)
        return self._keys[owner, name]

    async def run(self, owner: str = "acme") -> uuid.UUID:
        """A run of the starter's."""
        return await add_run(self.database, self.owners[owner], self.people[owner, "starter"])

    async def gate(self, run_id: uuid.UUID, owner: str = "acme", **more: object) -> uuid.UUID:
        """An open gate of that run."""
        starter = self.people[owner, "starter"]
        return await add_gate(self.database, self.owners[owner], run_id, starter, **more)


@pytest.fixture
def settings(database_url: str, nats_url: str, tmp_path: Path) -> ApprovalsSettings:
    key = tmp_path / "seal.key"
    key.write_text(base64.b64encode(bytes(range(32))).decode())
    # Loops are run by the tests that are about them; here they stand still after their first turn.
    return ApprovalsSettings(
        database_url=database_url,
        nats_url=nats_url,
        expiry_seconds=60,
        agenda_seconds=60,
        untold_seconds=60,
        shutdown_grace_seconds=0,
        seal_key_file=key,
        egress_allow="127.0.0.1",
        webhook_http=True,
        webhook_poll_seconds=0.05,
        webhook_schedule=(0, 0.1, 0.2),
        webhook_attempt_seconds=2,
    )


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Client]:
    """What schedulers and others see of the bus."""
    client = await nats.connect(nats_url)
    yield client
    await client.close()


@pytest.fixture
async def start(settings: ApprovalsSettings) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Starts the service with some settings changed; may be called more than once."""
    async with AsyncExitStack() as closing:
        database = Database(settings.database_url.get_secret_value(), name="wfe-test", size=4)
        await database.open()
        closing.push_async_callback(database.close)
        owners, people = {}, {}
        for owner in ("acme", "rival"):
            seeded = await Identity(database).seed_owner(owner, PEOPLE)
            owners[owner] = seeded.owner_id
            people |= {(owner, name): principal for name, principal in seeded.principals.items()}

        async def start_one(**changed: object) -> World:
            stack = Stack()
            closing.push_async_callback(stack.close)
            server = await serve(stack, settings.model_copy(update=changed))
            channel = await closing.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}"))
            approvals = approval_service_pb2_grpc.ApprovalServiceStub(channel)
            identity = identity_service_pb2_grpc.IdentityServiceStub(channel)
            webhooks = webhook_service_pb2_grpc.WebhookServiceStub(channel)
            hooks = webhook_service_pb2_grpc.HookServiceStub(channel)
            return World(database, approvals, identity, webhooks, hooks, server, owners, people)

        yield start_one


@pytest.fixture
async def world(start: Callable[..., Awaitable[World]]) -> World:
    return await start()


@pytest.fixture
async def receivers() -> AsyncIterator[Receivers]:
    """A web server of other systems."""
    async with Receivers() as running:
        yield running


@pytest.fixture
async def links(world: World) -> AsyncIterator[approval_service_pb2_grpc.LinkServiceStub]:
    """Calls without credentials."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.server.port}") as channel:
        yield approval_service_pb2_grpc.LinkServiceStub(channel)
