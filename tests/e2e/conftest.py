"""One engine for the whole session (for each worker of pytest-xdist), and callers of it.

Tests may kill and restart its parts, and leave every part running when they end. Each makes its own runs and
templates; nothing is cleaned up between tests.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from wfe.api.v1 import (
    approval_service_pb2_grpc,
    identity_service_pb2_grpc,
    system_service_pb2_grpc,
    template_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from wfe_stack.rest import Rest
from wfe_stack.seed import SeedPrincipal, seed
from wfe_stack.settings import StackSettings, sample_folder
from wfe_stack.stack import Stack
from wfe_stack.testing import TEST_SETTINGS

#: Short, so that tests of lost leases are short.
LEASE_SECONDS = 3.0
HEARTBEAT_SECONDS = 0.5

STRANGER = SeedPrincipal("stranger", roles=("operator", "author", "viewer", "approver", "admin"))


@pytest.fixture(scope="session")
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """The engine, with the samples published."""
    # Not pytest's folder: that one is closed to the account the database runs under when tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="wfe-e2e-"))
    settings = StackSettings(
        folder=folder / "data",
        postgres=TEST_SETTINGS,
        samples=sample_folder(),
        environment={
            "WFE_LEASE_SECONDS": str(LEASE_SECONDS),
            "WFE_EGRESS_ALLOW": "127.0.0.1",
            "WFE_WEBHOOK_HTTP": "true",
            "WFE_WEBHOOK_SCHEDULE": "[0, 0.3, 0.3, 0.3]",
            "WFE_WEBHOOK_ATTEMPT_SECONDS": "3",
        },
        executor_environment={
            "WFE_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "WFE_EGRESS_ALLOW": "127.0.0.1",
        },
        # A part that dies by itself is a failure, not something to mend in silence.
        restarts=False,
    )
    try:
        async with Stack(settings) as running:
            yield running
    finally:
        if request.session.testsfailed:
            kept = Path(request.config.rootpath) / "build" / "e2e-logs"
            shutil.copytree(folder / "data" / "logs", kept, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def stranger_key(stack: Stack) -> str:
    """Key of somebody who may do everything, in another owner."""
    path = stack.settings.folder / "stranger.json"
    return (await seed(stack.database_url, path, owner="other", people=(STRANGER,)))["stranger"]


@pytest.fixture(scope="session")
async def rest_as(stack: Stack, stranger_key: str) -> AsyncIterator[Callable[[str], Rest]]:
    """The REST API as sam, ada, root, stranger, or nobody."""
    keys = {**stack.keys, "stranger": stranger_key, "nobody": None}
    callers = {name: Rest(stack.url, key) for name, key in keys.items()}
    yield callers.__getitem__
    for rest in callers.values():
        await rest.close()


@pytest.fixture
def sam(rest_as: Callable[[str], Rest]) -> Rest:
    """The starter, over REST."""
    return rest_as("sam")


@pytest.fixture
def ada(rest_as: Callable[[str], Rest]) -> Rest:
    """The approver, over REST."""
    return rest_as("ada")


@pytest.fixture
def root(rest_as: Callable[[str], Rest]) -> Rest:
    """The administrator, over REST."""
    return rest_as("root")


@pytest.fixture
def stranger(rest_as: Callable[[str], Rest]) -> Rest:
    """Somebody of another owner, over REST."""
    return rest_as("stranger")


@dataclass(frozen=True)
class Stubs:
    """The gRPC API as one caller: one stub for each service."""

    workflows: Any
    templates: Any
    approvals: Any
    identity: Any
    system: Any


class _WithKey(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, key: str) -> None:
        self._key = key

    def with_key(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {self._key}")
        return details._replace(metadata=metadata)

    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(self.with_key(details), request)


class _StreamWithKey(_WithKey, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation, details, request):
        return await continuation(self.with_key(details), request)


@pytest.fixture(scope="session")
async def grpc_as(stack: Stack, stranger_key: str) -> AsyncIterator[Callable[[str], Stubs]]:
    """The gRPC API through the gateway as sam, ada, root, stranger, or nobody."""
    keys = {**stack.keys, "stranger": stranger_key, "nobody": None}
    channels: list[grpc.aio.Channel] = []
    made: dict[str, Stubs] = {}

    def caller(name: str) -> Stubs:
        if name not in made:
            key = keys[name]
            interceptors = [_WithKey(key), _StreamWithKey(key)] if key else []
            channel = grpc.aio.insecure_channel(stack.grpc, interceptors=interceptors)
            channels.append(channel)
            made[name] = Stubs(
                workflow_service_pb2_grpc.WorkflowServiceStub(channel),
                template_service_pb2_grpc.TemplateServiceStub(channel),
                approval_service_pb2_grpc.ApprovalServiceStub(channel),
                identity_service_pb2_grpc.IdentityServiceStub(channel),
                system_service_pb2_grpc.SystemServiceStub(channel),
            )
        return made[name]

    yield caller
    for channel in channels:
        await channel.close()


@pytest.fixture
def publish(sam: Rest) -> Callable[[str], Awaitable[str]]:
    """Publishes a template source, as the next version when its name is known, and returns the template's id."""

    async def make(source: str) -> str:
        name = next(line.partition(":")[2].strip() for line in source.splitlines() if line.startswith("name:"))
        known = (await sam.get("/api/v1/templates", name=name))["templates"]
        if known:
            template = await sam.put(f"/api/v1/templates/{known[0]['id']}", {"source": source})
        else:
            template = await sam.post("/api/v1/templates", {"source": source})
        await sam.post(f"/api/v1/templates/{template['id']}/publish")
        return str(template["id"])

    return make


@pytest.fixture
def sample(sam: Rest) -> Callable[[str], Awaitable[str]]:
    """The id of a published sample, by its name."""

    async def find(name: str) -> str:
        return str((await sam.get("/api/v1/templates", name=name))["templates"][0]["id"])

    return find
