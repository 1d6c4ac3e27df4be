"""The parts of a stack: what to run, with which environment, and in which order they end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from wfe_bus.subjects import PERMISSIONS

from wfe_stack.bus import program
from wfe_stack.folder import Folder
from wfe_stack.leftovers import MARK
from wfe_stack.ports import LOOPBACK, Ports
from wfe_stack.settings import StackSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process of a stack.

    Attributes:
        name: scheduler, scheduler-2, …; the log's name too.
        arguments: Program and arguments.
        environment: Whole environment of the process.
        port: TCP port that accepts connections once the part is up; None when there is none.
        host: Address of the port.
        metrics: Port of its metrics on loopback; 0 when it serves none.
        rank: Parts of a lower rank end first.
        stop_seconds: How long it may take to end before it is killed.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    port: int | None = None
    host: str = LOOPBACK
    metrics: int = 0
    rank: int
    stop_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where everything of one stack is.

    Attributes:
        settings: What was asked for.
        folder: The data folder.
        rest_port: Of the gateway's REST listener.
        grpc_port: Of the gateway's gRPC listener.
        scheduler_ports: One for each scheduler.
        approvals_ports: One for each approvals service.
        nats_port: Of the own NATS server.
        metrics_ports: By part; empty when none are served.
        passwords: NATS passwords by role; empty for somebody else's server.
        database_url: Of the run store.
    """

    settings: StackSettings
    folder: Folder
    rest_port: int
    grpc_port: int
    scheduler_ports: tuple[int, ...]
    approvals_ports: tuple[int, ...]
    nats_port: int
    metrics_ports: dict[str, int]
    passwords: dict[str, str] = field(repr=False)
    database_url: str = field(repr=False)

    @property
    def nats_url(self) -> str:
        """URL of the bus."""
        return self.settings.nats_url or f"nats://{LOOPBACK}:{self.nats_port}"


def reserve(settings: StackSettings, folder: Folder, ports: Ports, passwords: dict[str, str]) -> Plan:
    """Reserve every port of a stack.

    Raises:
        PortTaken: A fixed port is somebody else's.
    """
    return Plan(
        settings=settings,
        folder=folder,
        rest_port=ports.reserve(settings.rest_port, host=settings.host, what="--port"),
        grpc_port=ports.reserve(settings.grpc_port, host=settings.host, what="--grpc-port"),
        scheduler_ports=tuple(ports.reserve() for _ in range(settings.schedulers)),
        approvals_ports=tuple(ports.reserve() for _ in range(settings.approvals)),
        nats_port=ports.reserve() if settings.nats_url is None else 0,
        metrics_ports={name: ports.reserve() for name in _measured(settings)} if settings.metrics else {},
        passwords=passwords,
        database_url=settings.database_url or "",
    )


def _measured(settings: StackSettings) -> list[str]:
    roles = (("scheduler", settings.schedulers), ("approvals", settings.approvals), ("executor", settings.executors))
    return ["gateway", *(_name(role, number) for role, count in roles for number in range(1, count + 1))]


def _name(role: str, number: int) -> str:
    return role if number == 1 else f"{role}-{number}"


def with_database(plan: Plan, url: str) -> Plan:
    """The plan once the run store is there."""
    return replace(plan, database_url=url)


def nats(plan: Plan) -> Part:
    """The bus."""
    return Part(
        name="nats",
        arguments=(program("nats-server"), "--config", str(plan.folder.path / "nats.conf")),
        environment=dict(os.environ) | {MARK: str(plan.folder.path)},
        port=plan.nats_port,
        rank=3,
    )


def gateway(plan: Plan) -> Part:
    """Envoy, in front of every scheduler and approvals service."""
    settings = plan.settings
    environment = _environment(plan) | {
        "WFE_GATEWAY_CONFIG_FILE": str(plan.folder.path / "envoy.json"),
        "WFE_GATEWAY_REST_HOST": settings.host,
        "WFE_GATEWAY_REST_PORT": str(plan.rest_port),
        "WFE_GATEWAY_GRPC_HOST": settings.host,
        "WFE_GATEWAY_GRPC_PORT": str(plan.grpc_port),
        "WFE_GATEWAY_SCHEDULER": _addresses(plan.scheduler_ports),
        "WFE_GATEWAY_APPROVALS": _addresses(plan.approvals_ports),
    }
    metrics = plan.metrics_ports.get("gateway", 0)
    if metrics:
        environment |= {
            "WFE_GATEWAY_ADMIN": f"unix:{plan.folder.path / 'envoy-admin.sock'}",
            "WFE_GATEWAY_METRICS_HOST": LOOPBACK,
            "WFE_GATEWAY_METRICS_PORT": str(metrics),
        }
    if (otlp := environment.get("WFE_OTLP_ENDPOINT")) is not None:
        environment.setdefault("WFE_GATEWAY_OTLP_ENDPOINT", otlp)
    return Part(
        name="gateway",
        arguments=(program("wfe-gateway"),),
        environment=environment,
        port=plan.rest_port,
        host=settings.host,
        metrics=metrics,
        rank=0,
    )


def services(plan: Plan) -> list[Part]:
    """Schedulers, approvals services and executors."""
    settings = plan.settings
    database = {"WFE_DATABASE_URL": plan.database_url}
    sealing = {"WFE_SEAL_KEY_FILE": str(plan.folder.seal_key)}
    executing = {
        "WFE_HANDLERS": ",".join(settings.handlers),
        "WFE_DRAIN_SECONDS": f"{settings.drain_seconds:g}",
        **settings.executor_environment,
    }
    parts = [
        _service(plan, "scheduler", number, port, {**database, **sealing})
        for number, port in enumerate(plan.scheduler_ports, 1)
    ]
    parts += [
        _service(plan, "approvals", number, port, {**database, **sealing})
        for number, port in enumerate(plan.approvals_ports, 1)
    ]
    parts += [_service(plan, "executor", number, None, executing) for number in range(1, settings.executors + 1)]
    return parts


def _service(plan: Plan, role: str, number: int, port: int | None, environment: Mapping[str, str]) -> Part:
    listening = {} if port is None else {"WFE_GRPC_HOST": LOOPBACK, "WFE_GRPC_PORT": str(port)}
    name = _name(role, number)
    metrics = plan.metrics_ports.get(name, 0)
    if metrics:
        listening |= {"WFE_METRICS_HOST": LOOPBACK, "WFE_METRICS_PORT": str(metrics)}
    drain = plan.settings.drain_seconds if role == "executor" else 0.0
    return Part(
        name=name,
        arguments=(program(f"wfe-{role}"),),
        environment={**_environment(plan, role), **listening, **environment},
        port=port,
        metrics=metrics,
        # Executors hand in their last reports to a scheduler that is still there.
        rank=1 if role == "executor" else 2,
        stop_seconds=10.0 + drain,
    )


def _environment(plan: Plan, role: str = "") -> dict[str, str]:
    """The environment of a service: that of this process, and where the others are."""
    settings = plan.settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WFE_GRPC_")}
    environment.pop("WFE_DATABASE_URL", None)
    environment.pop("WFE_METRICS_PORT", None)
    environment |= {"WFE_LOG_LEVEL": settings.log_level, "WFE_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
    environment[MARK] = str(plan.folder.path)
    if role in PERMISSIONS:
        environment["WFE_NATS_URL"] = plan.nats_url
        if role in plan.passwords:
            environment |= {"WFE_NATS_USER": role, "WFE_NATS_PASSWORD": plan.passwords[role]}
    return environment | dict(settings.environment)


def _addresses(ports: tuple[int, ...]) -> str:
    return ",".join(f"{LOOPBACK}:{port}" for port in ports)
