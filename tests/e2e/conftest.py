"""One engine for the whole session (for each worker of pytest-xdist), and callers of it.

Tests may kill and restart its parts, and leave every part running when they end. Each makes its own runs and
templates; nothing is cleaned up between tests.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
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

HERE = str(Path(__file__).parent)
# Tests share modules, and executors import their handlers.
sys.path.insert(0, HERE)

from e2e_issuer import Issuer  # noqa: E402
from e2e_mcp import documents  # noqa: E402
from e2e_runs import path_of  # noqa: E402
from e2e_stage import Stage  # noqa: E402
from e2e_store import Store  # noqa: E402
from e2e_witness import Witness  # noqa: E402

#: Short, so that tests of lost leases are short.
LEASE_SECONDS = 3.0
HEARTBEAT_SECONDS = 0.5

STRANGER = SeedPrincipal("stranger", roles=("operator", "author", "viewer", "approver", "admin", "breakglass"))
#: Of sam's, ada's and root's owner: an editor beside ada, an approver who is none, and an editor who starts runs.
MORE_PEOPLE = (
    SeedPrincipal("eve", roles=("approver", "viewer"), groups=("editors",)),
    SeedPrincipal("olga", roles=("approver", "viewer")),
    SeedPrincipal("max", roles=("operator", "approver", "viewer"), groups=("editors",)),
)


@asynccontextmanager
async def engine(request: pytest.FixtureRequest, name: str, **changes: Any) -> AsyncIterator[Stack]:
    """An engine of its own folder, whose logs are kept when a test fails.

    Args:
        changes: Of its settings; environments are added to those every engine here has.
    """
    # Not pytest's folder: that one is closed to the account the database runs under when tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="wfe-e2e-"))
    executing = {
        "WFE_EGRESS_ALLOW": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(filter(None, (HERE, os.environ.get("PYTHONPATH")))),
    }
    everywhere = {
        "WFE_EGRESS_ALLOW": "127.0.0.1",
        "WFE_WEBHOOK_HTTP": "true",
        "WFE_WEBHOOK_SCHEDULE": "[0, 0.3, 0.3, 0.3]",
        "WFE_WEBHOOK_ATTEMPT_SECONDS": "3",
    }
    settings = StackSettings(
        folder=folder / "data",
        postgres=TEST_SETTINGS,
        handlers=("wfe_executor.demo", "e2e_handlers", "e2e_gallery"),
        executor_environment=executing | changes.pop("executor_environment"),
        environment=everywhere | changes.pop("environment", {}),
        # A part that dies by itself is a failure, not something to mend in silence.
        restarts=False,
        **changes,
    )
    try:
        async with Stack(settings) as running:
            yield running
    finally:
        if request.session.testsfailed:
            kept = Path(request.config.rootpath) / "build" / "e2e-logs" / name
            shutil.copytree(folder / "data" / "logs", kept, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def issuer() -> AsyncIterator[Issuer]:
    """An issuer of tokens that the engine accepts."""
    async with Issuer() as running:
        yield running


@pytest.fixture(scope="session")
async def stage() -> AsyncIterator[Stage]:
    """What the handlers of the gallery reach."""
    async with Stage() as running:
        yield running


@pytest.fixture(scope="session")
async def stack(
    request: pytest.FixtureRequest, issuer: Issuer, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """The engine, with the samples published."""
    issuers = tmp_path_factory.mktemp("oidc") / "issuers.json"
    issuers.write_text(json.dumps(issuer.settings()))
    async with engine(
        request,
        "stack",
        samples=sample_folder(),
        environment={"WFE_LEASE_SECONDS": str(LEASE_SECONDS), "WFE_OIDC_FILE": str(issuers)},
        executor_environment={
            "WFE_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "WFE_E2E_STAGE": stage.url,
            "WFE_EXECUTOR_QUEUES": "default,code",
        },
    ) as running:
        yield running


@pytest.fixture(scope="session")
def lease_seconds() -> float:
    """Seconds after which a silent executor of `stack` has lost what it holds."""
    return LEASE_SECONDS


@pytest.fixture(scope="session")
async def crash_stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """A second engine, for tests that kill all of it or lose many leases; its clocks are shorter still.

    It has two schedulers, which the gateway uses in turn.
    """
    async with engine(
        request,
        "crash-stack",
        schedulers=2,
        environment={"WFE_LEASE_SECONDS": "1.5", "WFE_SWEEP_SECONDS": "0.2"},
        executor_environment={"WFE_HEARTBEAT_SECONDS": "0.2", "WFE_DRAIN_SECONDS": "0.2"},
    ) as running:
        yield running


@pytest.fixture(scope="session")
def store(stack: Stack) -> Store:
    """The run store, read past the engine."""
    return Store(stack.database_url)


@pytest.fixture
async def docs_url() -> AsyncIterator[str]:
    """An MCP server with a tool `search`."""
    async with documents() as url:
        yield url


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    """A server outside that steps call."""
    async with Witness() as running:
        yield running


@pytest.fixture(scope="session")
async def keys(stack: Stack) -> dict[str, str | None]:
    """Keys by name: of the seeded people, of MORE_PEOPLE, of the stranger of another owner, and of nobody."""
    folder = stack.settings.folder
    more = await seed(stack.database_url, folder / "more.json", people=MORE_PEOPLE)
    strange = await seed(stack.database_url, folder / "stranger.json", owner="other", people=(STRANGER,))
    return {**stack.keys, **more, **strange, "nobody": None}


@pytest.fixture(scope="session")
async def rest_as(stack: Stack, keys: dict[str, str | None]) -> AsyncIterator[Callable[[str], Rest]]:
    """The REST API as one of those with a key, or nobody."""
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


class _WithKey:
    def __init__(self, key: str) -> None:
        self._key = key

    def with_key(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {self._key}")
        return details._replace(metadata=metadata)


# Two classes: a channel takes an interceptor for the first kind it is of.
class _UnaryWithKey(_WithKey, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(self.with_key(details), request)


class _StreamWithKey(_WithKey, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation, details, request):
        return await continuation(self.with_key(details), request)


@pytest.fixture(scope="session")
async def grpc_as(stack: Stack, keys: dict[str, str | None]) -> AsyncIterator[Callable[[str], Stubs]]:
    """The gRPC API through the gateway as one of those with a key, or nobody."""
    channels: list[grpc.aio.Channel] = []
    made: dict[str, Stubs] = {}

    def caller(name: str) -> Stubs:
        if name not in made:
            key = keys[name]
            interceptors = [_UnaryWithKey(key), _StreamWithKey(key)] if key else []
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
def publish(sam: Rest) -> Callable[..., Awaitable[str]]:
    """Publishes a template source, as the next version when its name is known, and returns the template's id."""

    async def make(source: str, sam: Rest = sam) -> str:
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


@pytest.fixture
def start(sam: Rest, publish: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Starts a run of a template source, by sam or somebody else, and returns the run as it is right after."""

    async def begin(source: str, by: Rest = sam, **given: Any) -> dict[str, Any]:
        body = {"template_id": await publish(source), "input": given}
        run: dict[str, Any] = await by.get(path_of((await by.start(body))["id"]))
        return run

    return begin


@pytest.fixture
async def people(stack, root: Rest) -> AsyncIterator[Callable[..., Awaitable[Rest]]]:
    """Makes a person with roles and groups; calls as that person."""
    callers: list[Rest] = []

    async def make(*groups: str, roles: tuple[str, ...] = ("approver",), name: str = "") -> Rest:
        name = name or f"p-{uuid.uuid4().hex[:8]}"
        person = await root.post("/api/v1/principals", {"name": name, "roles": list(roles)})
        for group in groups:
            known = {g["name"]: g["id"] for g in (await root.get("/api/v1/groups", limit=200))["groups"]}
            if group not in known:
                known[group] = (await root.post("/api/v1/groups", {"name": group}))["id"]
            await root.put(f"/api/v1/groups/{known[group]}/members/{person['id']}")
        key = await root.post("/api/v1/keys", {"principal_id": person["id"]})
        rest = Rest(stack.url, key["secret"])
        rest.name = name  # type: ignore[attr-defined]
        callers.append(rest)
        return rest

    yield make
    for caller in callers:
        await caller.close()
