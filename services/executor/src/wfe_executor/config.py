"""Settings of an executor, from the environment: `WFE_` and the name in capitals."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable

from pydantic import Field, field_validator
from wfe_egress import Guard
from wfe_servicekit.settings import ProcessSettings


def listed(text: str) -> tuple[str, ...]:
    """The entries of a list with commas, without blanks and empty ones."""
    return tuple(filter(None, (entry.strip() for entry in text.split(","))))


class Settings(ProcessSettings):
    """What an executor reads, besides WFE_NATS_URL, WFE_NATS_USER, WFE_NATS_PASSWORD and WFE_LOG_LEVEL.

    Attributes:
        executor_queues: Queues it serves, with commas.
        executor_slots: Steps at one time, async and sync together.
        executor_processes: Processes for sync handlers; each runs one step at a time.
        executor_name: Name for people; the host's name by default.
        handlers: Modules with handlers, with commas; imported at start, and once more in every process.
        heartbeat_seconds: Seconds between heartbeats.
        drain_seconds: Seconds that running steps get to finish after SIGTERM; then they are given back.
        egress_allow: Networks, addresses and hosts inside that steps may call; see `wfe_egress.Guard`.
        egress_https_only: Refuse http.
        mcp_commands: Commands that may be started as local MCP servers, with commas; each with the arguments it
            must begin with, e.g. "uvx mcp-server-time". None without it.
        health_port: Port of GET /healthz on every interface; 0 for none.
    """

    executor_queues: str = "default"
    executor_slots: int = Field(256, ge=1, le=10_000)
    executor_processes: int = Field(2, ge=1, le=256)
    executor_name: str = Field(default_factory=platform.node, max_length=200)
    handlers: str = ""
    heartbeat_seconds: float = Field(5.0, gt=0, le=60)
    drain_seconds: float = Field(20.0, ge=0, le=3600)
    egress_allow: str = ""
    egress_https_only: bool = False
    mcp_commands: str = ""
    health_port: int = Field(0, ge=0, le=65535)

    @field_validator("executor_queues")
    @classmethod
    def _queues(cls, text: str) -> str:
        if not listed(text):
            raise ValueError("names no queue; write e.g. default")
        return text

    @field_validator("handlers")
    @classmethod
    def _modules(cls, text: str) -> str:
        _refuse(name for name in listed(text) if not all(part.isidentifier() for part in name.split(".")))
        return text

    @field_validator("egress_allow")
    @classmethod
    def _allowed(cls, text: str) -> str:
        Guard(allow=text)
        return text

    @field_validator("mcp_commands")
    @classmethod
    def _startable(cls, text: str) -> str:
        for entry in listed(text):
            shlex.split(entry)
        return text

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of local MCP servers, one by one."""
        return listed(self.mcp_commands)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues, one by one."""
        return listed(self.executor_queues)

    @property
    def modules(self) -> tuple[str, ...]:
        """The handler modules, one by one."""
        return listed(self.handlers)


def _refuse(bad: Iterable[str]) -> None:
    names = ", ".join(bad)
    if names:
        raise ValueError(f"{names} cannot be a module's name; write e.g. my_company.handlers")
