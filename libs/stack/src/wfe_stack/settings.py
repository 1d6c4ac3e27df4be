"""What a stack is to be like."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wfe_stack.ports import LOOPBACK

#: Folder of a stack, under the current one, when WFE_HOME does not name another.
FOLDER = ".wfe"
#: Where the REST and the gRPC listener of `wfe up` are, when nothing else is said.
REST_PORT = 8080
GRPC_PORT = 8081


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """What a stack is to be like. The defaults suit tests: free ports, one process of each kind.

    Attributes:
        folder: Data folder; made when missing.
        host: Address the gateway listens on; everything else listens on loopback only.
        rest_port: Of the gateway's REST listener; 0 for any free one.
        grpc_port: Of the gateway's gRPC listener; 0 for any free one.
        schedulers: How many schedulers.
        approvals: How many approvals services.
        executors: How many executors.
        database_url: An existing PostgreSQL database to use; None for an own server in the folder.
        nats_url: An existing NATS server to use; None for an own one.
        postgres: Settings over the own server's defaults, e.g. {"fsync": "off"} in tests.
        handlers: Modules with step handlers, for the executors.
        environment: Variables over those of this process, for every service.
        executor_environment: The same, for executors alone.
        samples: Folder of template sources to publish; None for none.
        restarts: Whether a part that ends by itself is started again.
        log_level: Of the services: debug, info, warning or error.
        drain_seconds: How long an executor may finish what it runs when the stack stops.
        metrics: Whether every process serves its metrics, on a free port of loopback each.
    """

    folder: Path
    host: str = LOOPBACK
    rest_port: int = 0
    grpc_port: int = 0
    schedulers: int = 1
    approvals: int = 1
    executors: int = 1
    database_url: str | None = None
    nats_url: str | None = None
    postgres: Mapping[str, str] = field(default_factory=dict)
    handlers: tuple[str, ...] = ("wfe_executor.demo",)
    environment: Mapping[str, str] = field(default_factory=dict)
    executor_environment: Mapping[str, str] = field(default_factory=dict)
    samples: Path | None = None
    restarts: bool = True
    log_level: str = "info"
    drain_seconds: float = 5.0
    metrics: bool = False


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """The data folder the environment names, or the default one."""
    return Path(environment.get("WFE_HOME") or FOLDER)


def sample_folder() -> Path | None:
    """The samples: those of the current folder, or of the checkout this package is in; None without any."""
    for folder in (Path("examples"), Path(__file__).resolve().parents[4] / "examples"):
        if any(folder.glob("*.yaml")):
            return folder
    return None
