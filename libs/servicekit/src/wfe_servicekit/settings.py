"""Settings of a process: read from the environment once, checked completely, before any port opens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

__all__ = ["ConfigFault", "ProcessSettings", "ServiceSettings", "load", "refuse"]

S = TypeVar("S", bound=BaseSettings)


class ConfigFault(Exception):
    """Something in the configuration is wrong.

    Attributes:
        faults: One line each, without secrets.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def _check_scheme(url: str, *schemes: str) -> None:
    # Only the scheme and the presence of a host are looked at; the driver knows the rest better.
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")


def _database_url(url: SecretStr) -> SecretStr:
    _check_scheme(url.get_secret_value(), "postgresql", "postgres")
    return url


def _nats_url(url: str) -> str:
    for one in url.split(","):
        _check_scheme(one.strip(), "nats", "tls", "ws", "wss")
    return url


def _http_url(url: str) -> str:
    _check_scheme(url, "http", "https")
    return url


def _signals(text: str) -> str:
    wrong = {one.strip() for one in text.split(",") if one.strip()} - {"traces", "metrics", "logs"}
    if wrong:
        raise ValueError(f"{', '.join(sorted(wrong))} is none of traces, metrics, logs")
    return text


class _Environment(EnvSettingsSource):
    """The environment; a list that is no JSON is left to validation, which finds the other faults too."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class ProcessSettings(BaseSettings):
    """What every process of the engine reads. Environment variables are `WFE_` and the name in capitals.

    Attributes:
        nats_url: One URL or several with commas between; user and password go into the other two.
        nats_user: User of the process's role.
        nats_password: Its password.
        nats_ca: PEM file with the authority of a tls:// server; the system's authorities when absent.
        log_level: Least level that is written.
        log_format: json; console for people; auto is console on a terminal and json otherwise.
        shutdown_grace_seconds: How long calls under way may take to end after a signal.
        drain_seconds: How long to go on serving after readiness was withdrawn, before calls are refused.
        metrics_host: Address the metrics are served on.
        metrics_port: Port of `GET /metrics`; 0 takes a free one, absent serves none.
        otlp_endpoint: Base URL of an OpenTelemetry collector, e.g. http://collector:4318; absent sends nothing.
        otlp_signals: Which of traces, metrics and logs to send there, with commas.
        trace_ratio: Part of the traces that begin here and are kept; a caller's own decision is followed.
    """

    model_config = SettingsConfigDict(
        env_prefix="WFE_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment and nothing else: no file is read because of where the process was started."""
        return init_settings, _Environment(settings_cls)

    nats_url: Annotated[str, AfterValidator(_nats_url)]
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_ca: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console", "auto"] = "auto"
    shutdown_grace_seconds: float = Field(10.0, ge=0, le=600)
    drain_seconds: float = Field(0.0, ge=0, le=120)
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=0, le=65_535)
    otlp_endpoint: Annotated[str, AfterValidator(_http_url)] | None = None
    otlp_signals: Annotated[str, AfterValidator(_signals)] = "traces,metrics,logs"
    trace_ratio: float = Field(0.01, ge=0, le=1)

    @property
    def signals(self) -> frozenset[str]:
        """The signals to send, one by one."""
        return frozenset(one.strip() for one in self.otlp_signals.split(",") if one.strip())


class ServiceSettings(ProcessSettings):
    """What a service with a database and a gRPC port reads besides.

    Attributes:
        database_url: Postgres, `postgresql://…`.
        grpc_host: Address to listen on.
        grpc_port: Port to listen on; 0 takes a free one.
        grpc_tls_cert: PEM file of the port's certificate chain, read anew when it changes; plain text when absent.
        grpc_tls_key: PEM file of its key.
        health_port: Port that serves grpc.health.v1 alone, without TLS, for probes that cannot do TLS; none when
            absent. The main port serves it too.
        grpc_port_file: File the port is written to once it is open; appears whole or not at all.
        oidc_file: JSON file with the issuers whose tokens are accepted; none when absent.
        max_request_bytes: Largest request message.
        max_streams: Server streams at the same time.
        max_owner_streams: The same for one owner.
        max_public_streams: Streams without credentials (health, reflection) at the same time, beside those.
        reflection: Whether gRPC reflection is served.
    """

    database_url: Annotated[SecretStr, AfterValidator(_database_url)]
    grpc_host: str = "127.0.0.1"
    grpc_port: int = Field(0, ge=0, le=65_535)
    grpc_tls_cert: Path | None = None
    grpc_tls_key: Path | None = None
    health_port: int | None = Field(None, ge=0, le=65_535)
    grpc_port_file: Path | None = None
    oidc_file: Path | None = None
    max_request_bytes: int = Field(4 << 20, ge=1 << 10, le=64 << 20)
    max_streams: int = Field(1_000, ge=1, le=100_000)
    max_owner_streams: int = Field(200, ge=1)
    max_public_streams: int = Field(200, ge=1, le=100_000)
    reflection: bool = True

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.grpc_tls_cert is None) != (self.grpc_tls_key is None):
            raise ValueError("WFE_GRPC_TLS_CERT and WFE_GRPC_TLS_KEY go together")
        return self


def faults_of(error: ValidationError, cls: type[BaseSettings]) -> list[str]:
    """One line for each fault, named by its environment variable. Values are left out: they may be secret."""
    prefix = cls.model_config.get("env_prefix", "")
    lines = []
    for fault in error.errors(include_url=False, include_input=False, include_context=True):
        path = [str(part) for part in fault["loc"]]
        name = (prefix + path[0]).upper() if path else "environment"
        where = f"{name} ({'.'.join(path[1:])})" if len(path) > 1 else name
        lines.append(f"{where}: {_sentence(fault)}")
    return lines


def _sentence(fault: Any) -> str:
    if fault["type"] == "missing":
        return "is not set, and there is no default"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    text: str = fault["msg"]
    return text[:1].lower() + text[1:]


def refuse(*faults: str) -> NoReturn:
    """Print what is wrong with the configuration to stderr, a line each, and exit with status 2."""
    for fault in faults:
        sys.stderr.write(f"configuration: {fault}\n")
    sys.stderr.flush()
    raise SystemExit(2)


def load(cls: type[S]) -> S:
    """Settings from the environment; faults are printed, all of them, and end the process with status 2.

    Args:
        cls: `ServiceSettings` or a class derived from it or from `ProcessSettings`.

    Raises:
        SystemExit: With status 2, after the faults went to stderr.
    """
    try:
        return cls()
    except ValidationError as error:
        faults = faults_of(error, cls)
    refuse(*faults)
