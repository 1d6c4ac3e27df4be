"""Building and starting a server: a complete policy, the port file, public health and reflection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from wfe.api.v1 import (
    approval_service_pb2_grpc,
    blob_service_pb2_grpc,
    callback_service_pb2_grpc,
    explain_service_pb2_grpc,
    identity_service_pb2_grpc,
    mending_service_pb2_grpc,
    schedule_service_pb2_grpc,
    secret_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
    template_service_pb2_grpc,
    webhook_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from wfe_servicekit.auth import Authenticator
from wfe_servicekit.health import Readiness
from wfe_servicekit.policy import AUTHENTICATED, POLICY, PUBLIC, ROLES
from wfe_servicekit.server import build_server
from wfe_servicekit.settings import ConfigFault
from wfe_servicekit.testing import MemoryDirectory, make_settings, refused, served

SERVICES = {
    "WorkflowService": workflow_service_pb2_grpc,
    "TemplateService": template_service_pb2_grpc,
    "ApprovalService": approval_service_pb2_grpc,
    "LinkService": approval_service_pb2_grpc,
    "IdentityService": identity_service_pb2_grpc,
    "CallbackService": callback_service_pb2_grpc,
    "MendingService": mending_service_pb2_grpc,
    "ScheduleService": schedule_service_pb2_grpc,
    "SecretService": secret_service_pb2_grpc,
    "BlobService": blob_service_pb2_grpc,
    "ExplainService": explain_service_pb2_grpc,
    "SystemService": system_service_pb2_grpc,
    "WebhookService": webhook_service_pb2_grpc,
    "HookService": webhook_service_pb2_grpc,
}


def entry(name: str) -> Any:
    module = SERVICES[name]
    return (
        getattr(module, f"add_{name}Servicer_to_server"),
        getattr(module, f"{name}Servicer")(),
        f"wfe.api.v1.{name}",
    )


def build(policy: Any, *names: str) -> Any:
    return build_server(make_settings(), [entry(name) for name in names], Authenticator(MemoryDirectory()), policy)


async def test_the_public_policy_has_a_row_for_every_method_of_every_service() -> None:
    build(POLICY, *SERVICES)
    pool = descriptor_pool.Default()
    methods = {
        f"/wfe.api.v1.{name}/{method.name}"
        for name in SERVICES
        for method in pool.FindServiceByName(f"wfe.api.v1.{name}").methods
    }
    assert set(POLICY) == methods


async def test_a_method_without_a_row_keeps_the_server_from_being_built() -> None:
    rows = {method: row for method, row in POLICY.items() if not method.endswith("/RevokeKey")}
    with pytest.raises(ValueError, match="IdentityService/RevokeKey has no row"):
        build(rows, "IdentityService")
    build(rows, "WorkflowService")


async def test_a_row_without_a_method_keeps_the_server_from_being_built() -> None:
    with pytest.raises(ValueError, match="SystemService/Typo has a row"):
        build({**POLICY, "/wfe.api.v1.SystemService/Typo": PUBLIC}, "SystemService")


async def test_a_servicer_that_is_not_async_keeps_the_server_from_being_built() -> None:
    class Blocking(system_service_pb2_grpc.SystemServiceServicer):
        def GetReadiness(self, request: Any, context: Any) -> Any:
            return system_service_pb2.Readiness()

    add = system_service_pb2_grpc.add_SystemServiceServicer_to_server
    with pytest.raises(TypeError, match="not async"):
        build_server(
            make_settings(),
            [(add, Blocking(), "wfe.api.v1.SystemService")],
            Authenticator(MemoryDirectory()),
            POLICY,
        )
    with pytest.raises(ValueError, match="registers"):
        build_server(
            make_settings(),
            [(add, Blocking(), "wfe.api.v1.WorkflowService")],
            Authenticator(MemoryDirectory()),
            POLICY,
        )


def test_admin_may_do_everything_and_no_row_has_unknown_roles() -> None:
    for method, row in POLICY.items():
        if row in (PUBLIC, AUTHENTICATED):
            continue
        assert isinstance(row, frozenset)
        # Bypassing a gate is a right of its own, which nobody has by being something else.
        assert ("admin" in row) != method.endswith("/BypassApproval"), method
        assert row <= ROLES, method


@pytest.mark.parametrize(
    ("method", "roles"),
    [
        ("WorkflowService/ListWorkflows", {"viewer", "operator", "author", "admin"}),
        ("WorkflowService/WatchWorkflow", {"viewer", "operator", "author", "admin"}),
        ("WorkflowService/StartWorkflow", {"operator", "admin"}),
        ("WorkflowService/RollbackWorkflow", {"operator", "admin"}),
        ("TemplateService/PublishTemplate", {"author", "admin"}),
        ("TemplateService/ValidateTemplate", ROLES),
        ("ApprovalService/ListApprovals", {"approver", "operator", "viewer", "admin", "breakglass"}),
        ("ApprovalService/BypassApproval", {"breakglass"}),
        ("LinkService/DecideByLink", PUBLIC),
        ("ApprovalService/ApproveWorkflow", {"approver", "admin"}),
        ("IdentityService/CreateKey", {"admin"}),
        ("IdentityService/GetSelf", AUTHENTICATED),
        ("SystemService/GetReadiness", PUBLIC),
        ("WebhookService/CreateWebhook", {"admin"}),
        ("WebhookService/RedeliverWebhook", {"operator", "admin"}),
        ("HookService/CreateHook", {"operator", "admin"}),
        ("HookService/ReceiveHook", PUBLIC),
    ],
)
def test_rows_of_the_policy(method: str, roles: Any) -> None:
    assert POLICY[f"/wfe.api.v1.{method}"] == roles


async def test_every_method_but_the_public_ones_refuses_strangers() -> None:
    async with served([entry(name) for name in SERVICES]) as server:
        for method, row in POLICY.items():
            if method.endswith("WatchWorkflow"):
                continue
            refusal = await refused(server.raw(method)(b""))
            wanted = grpc.StatusCode.UNIMPLEMENTED if row is PUBLIC else grpc.StatusCode.UNAUTHENTICATED
            assert refusal.code is wanted, method


async def test_a_method_for_all_callers_needs_no_role() -> None:
    async with served([entry("IdentityService")]) as server:
        refusal = await refused(server.raw("/wfe.api.v1.IdentityService/GetSelf")(b"", metadata=server.bearer()))
        assert refusal.code is grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_public_and_ready_follows_the_pings() -> None:
    well = True

    async def ping() -> None:
        if not well:
            raise ConnectionError

    readiness = Readiness(interval=3600, failures_allowed=1)
    readiness.add("store", ping)
    async with served([entry("SystemService")], readiness=readiness) as server:
        stub = health_pb2_grpc.HealthStub(server.channel)

        async def status(service: str) -> Any:
            return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status

        serving, not_serving = (
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
        )
        assert (await status(""), await status("ready")) == (serving, serving)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="ready"))
        assert (await watch.read()).status == serving
        well = False
        await readiness.check()
        assert (await watch.read()).status == not_serving
        assert (await status(""), await status("ready")) == (serving, not_serving)
        well = True
        await readiness.check()
        assert (await watch.read()).status == serving
        await readiness.closing()
        assert (await status(""), await status("ready")) == (serving, not_serving)
        watch.cancel()


@pytest.mark.parametrize("enabled", [True, False])
async def test_reflection_is_public_when_enabled(enabled: bool) -> None:
    async with served([entry("SystemService")], settings=make_settings(reflection=enabled)) as server:
        stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        if enabled:
            names = {service.name for service in (await call.read()).list_services_response.service}
            assert {"wfe.api.v1.SystemService", "grpc.health.v1.Health"} <= names
        else:
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_port_is_written_to_its_file_once_it_is_open(tmp_path: Path) -> None:
    file = tmp_path / "run" / "port"
    async with served([entry("SystemService")], settings=make_settings(grpc_port_file=file)) as server:
        assert file.read_text() == f"{server.server.port}\n"
        assert server.server.port > 0
        assert [path.name for path in file.parent.iterdir()] == ["port"]


async def test_a_port_in_use_is_a_fault_of_the_configuration() -> None:
    async with served([entry("SystemService")]) as server:
        second = build_server(make_settings(grpc_port=server.server.port), [], Authenticator(MemoryDirectory()), POLICY)
        with pytest.raises(ConfigFault, match="is it in use"):
            await second.start()


async def test_readiness_says_which_part_is_not_well() -> None:
    class System(system_service_pb2_grpc.SystemServiceServicer):
        async def GetReadiness(self, request: Any, context: Any) -> Any:
            return system_service_pb2.Readiness(status="ready", parts=readiness.require())

    async def ping() -> None:
        raise ConnectionError("password=hunter2")

    readiness = Readiness(interval=3600)
    readiness.add("store", ping)
    readiness.add("bus", lambda: asyncio.sleep(0))
    add = system_service_pb2_grpc.add_SystemServiceServicer_to_server
    async with served([(add, System(), "wfe.api.v1.SystemService")], readiness=readiness) as server:
        stub = system_service_pb2_grpc.SystemServiceStub(server.channel)
        refusal = await refused(stub.GetReadiness(system_service_pb2.GetReadinessRequest()))
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert refusal.info.reason == "NOT_READY"
        assert dict(refusal.info.metadata) == {"store": "ConnectionError"}
        assert refusal.details["RetryInfo"].retry_delay.seconds == 1


async def test_no_method_of_any_service_waits_for_ever() -> None:
    """Whoever calls and never says what, is answered in time: a call under way costs room."""
    methods = [
        (f"/wfe.api.v1.{name}/{method.name}", method.server_streaming)
        for name in SERVICES
        for method in descriptor_pool.Default().FindServiceByName(f"wfe.api.v1.{name}").methods
    ]
    assert {method for method, _ in methods} == set(POLICY)
    async with served([entry(name) for name in SERVICES], default_deadline=0.3, deadlines={}) as server:
        metadata = server.bearer(*ROLES)

        async def code(method: str, streams: bool) -> grpc.StatusCode:
            make = server.channel.stream_stream if streams else server.channel.stream_unary
            call = make(method)(metadata=metadata, timeout=20)
            return await call.code()

        codes = await asyncio.gather(*(code(*method) for method in methods))
    late = {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert {method: got for (method, _), got in zip(methods, codes, strict=True) if got not in late} == {}
