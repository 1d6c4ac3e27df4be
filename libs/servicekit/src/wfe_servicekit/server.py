"""A gRPC server with the guard around every method, health, and reflection."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from wfe_servicekit.deadlines import DEADLINES, DEFAULT_DEADLINE
from wfe_servicekit.health import Readiness
from wfe_servicekit.interceptors import Authenticates, Guard
from wfe_servicekit.large import LARGE_REQUEST_BYTES, LargeRequests
from wfe_servicekit.listening import Probes, credentials
from wfe_servicekit.policy import PUBLIC, Policy
from wfe_servicekit.settings import ConfigFault, ServiceSettings

__all__ = ["RunningServer", "ServiceEntry", "build_server"]

_log = structlog.get_logger("wfe.server")

ServiceEntry = tuple[Callable[[Any, Any], None], Any, str]
"""The generated `add_…Servicer_to_server`, the servicer, and the full name of its service."""

_HEALTH = "grpc.health.v1.Health"
#: Seconds before the end of the grace at which calls under way are answered that they did not end.
_SHED_SECONDS = 1.0


class RunningServer:
    """A server with its port.

    Attributes:
        port: The port it listens on; 0 before `start`.
        health_port: The port of the probes; 0 when there is none.
        readiness: Its readiness; served as health service `ready`.
    """

    def __init__(self, server: grpc.aio.Server, settings: ServiceSettings, readiness: Readiness, guard: Guard) -> None:
        self._server = server
        self._guard = guard
        self._settings = settings
        self.readiness = readiness
        self.port = self.health_port = 0
        self._probes = Probes(readiness)

    async def start(self) -> int:
        """Open the port, serve, ping the parts, then write the port file.

        Returns:
            The port.

        Raises:
            ConfigFault: The address cannot be listened on.
        """
        host, wanted = self._settings.grpc_host, self._settings.grpc_port
        address = f"[{host}]:{wanted}" if ":" in host else f"{host}:{wanted}"
        try:
            self.port = self._open(address)
        except RuntimeError as error:
            raise ConfigFault(f"WFE_GRPC_PORT: cannot listen on {address}: is it in use?") from error
        if self._settings.health_port is not None:
            self.health_port = await self._probes.start(host, self._settings.health_port)
        await self._server.start()
        await self.readiness.start()
        if self._settings.grpc_port_file is not None:
            write_atomically(self._settings.grpc_port_file, f"{self.port}\n")
        _log.info("serving", host=host, port=self.port)
        return self.port

    def _open(self, address: str) -> int:
        cert, key = self._settings.grpc_tls_cert, self._settings.grpc_tls_key
        if cert is None or key is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, credentials(cert, key)))

    async def stop(self, grace: float | None = None) -> None:
        """Refuse new calls, let those under way end within `grace` seconds, answer the rest Unavailable. Repeatable."""
        await self.readiness.closing()
        seconds = self._settings.shutdown_grace_seconds if grace is None else grace
        stopping = asyncio.ensure_future(self._server.stop(seconds))
        # What grpc itself ends is CANCELLED, which tells nobody to try again.
        await asyncio.wait({stopping}, timeout=max(seconds - _SHED_SECONDS, seconds / 2))
        self._guard.shed()
        await stopping
        await self.readiness.stop()
        await self._probes.stop()

    async def wait(self) -> None:
        """Until the server has stopped."""
        await self._server.wait_for_termination()


def build_server(
    settings: ServiceSettings,
    servicers: Sequence[ServiceEntry],
    authenticator: Authenticates,
    policy: Policy,
    *,
    readiness: Readiness | None = None,
    deadlines: Mapping[str, float] = DEADLINES,
    default_deadline: float = DEFAULT_DEADLINE,
    large: LargeRequests | None = None,
) -> RunningServer:
    """A server for these servicers; its port is not open yet. Needs a running event loop.

    Args:
        settings: Host, port, limits.
        servicers: See `ServiceEntry`.
        authenticator: Knows who calls.
        policy: Who may call what. Rows of services that are not served here do not matter.
        readiness: Pings of the parts this process needs; without it the process is ready once it serves.
        deadlines: Seconds a unary method may take, by full name.
        default_deadline: Seconds for the others.
        large: Reads large requests of the methods that take them.

    Raises:
        ValueError: A method of a service has no row in the policy, or a row of a service has no such method.
        TypeError: A servicer's method is not async.
    """
    readiness = readiness or Readiness()
    guard = Guard(
        authenticator,
        max_request_bytes=settings.max_request_bytes,
        max_streams=settings.max_streams,
        max_owner_streams=settings.max_owner_streams,
        max_public_streams=settings.max_public_streams,
        large=large,
    )
    names = [name for _, _, name in servicers]
    _check_policy(names, policy)
    for add, servicer, name in servicers:
        for method, handler in _handlers_of(add, servicer, name):
            guard.add(method, handler, policy[method], deadlines.get(method, default_deadline))
    for method, handler in _handlers_of(health_pb2_grpc.add_HealthServicer_to_server, readiness.servicer, _HEALTH):
        guard.add(method, handler, PUBLIC)
    server = grpc.aio.server(options=_options(settings, large=large is not None))
    if settings.reflection:
        _add_reflection(guard, [*names, _HEALTH, reflection.SERVICE_NAME], default_deadline)
    # Last, because it answers for every name it does not know.
    server.add_generic_rpc_handlers((guard,))
    return RunningServer(server, settings, readiness, guard)


def _add_reflection(guard: Guard, names: Sequence[str], deadline: float) -> None:
    """Behind the guard, too: as the library adds it, it has no limits, and answers broken bytes with UNKNOWN."""
    servicer = reflection.aio.ReflectionServicer(names)
    (answers,) = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].methods

    async def answer(request: Any) -> Any:
        async def alone() -> AsyncIterator[Any]:
            yield request

        return await anext(servicer.ServerReflectionInfo(alone(), None))

    guard.add_dialogue(
        f"/{reflection.SERVICE_NAME}/{answers.name}",
        answer,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
        deadline,
    )


def _options(settings: ServiceSettings, *, large: bool) -> list[tuple[str, int]]:
    most = max(settings.max_request_bytes, LARGE_REQUEST_BYTES if large else 0)
    return [
        # Twice the limit, so that the guard can answer with what is wrong; grpc's own answer is
        # RESOURCE_EXHAUSTED.
        ("grpc.max_receive_message_length", 2 * most),
        # Tokens may have 8 KiB.
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.absolute_max_metadata_size", 32 << 10),
        # Otherwise a second process on the same port would start without a word and take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]


def _check_policy(names: Iterable[str], policy: Policy) -> None:
    faults = []
    for name in names:
        service = descriptor_pool.Default().FindServiceByName(name)
        methods = {f"/{name}/{method.name}" for method in service.methods}
        rows = {method for method in policy if method.startswith(f"/{name}/")}
        faults += [f"{method} has no row in the policy" for method in sorted(methods - rows)]
        faults += [f"{method} has a row in the policy and does not exist" for method in sorted(rows - methods)]
    if faults:
        raise ValueError("; ".join(faults))


class _Collector:
    """Stands in for a server where generated code registers a servicer."""

    def __init__(self) -> None:
        self.handlers: dict[str, dict[str, grpc.RpcMethodHandler]] = {}

    def add_generic_rpc_handlers(self, _handlers: Any) -> None:
        """Not needed: the same handlers come by name."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        self.handlers[service] = handlers


def _handlers_of(add: Callable[[Any, Any], None], servicer: Any, name: str) -> list[tuple[str, grpc.RpcMethodHandler]]:
    collector = _Collector()
    add(servicer, collector)
    if set(collector.handlers) != {name}:
        raise ValueError(f"{add.__name__} registers {sorted(collector.handlers)}, not {name}")
    return [(f"/{name}/{method}", handler) for method, handler in collector.handlers[name].items()]


def write_atomically(path: Path, text: str) -> None:
    """Write a small file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
