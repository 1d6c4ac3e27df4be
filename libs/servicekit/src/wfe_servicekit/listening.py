"""Ports of a gRPC server: TLS with certificates that are renewed under it, and a port for probes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from wfe_servicekit.settings import ConfigFault

__all__ = ["Probes", "credentials"]


def credentials(cert: Path, key: Path) -> grpc.ServerCredentials:
    """Credentials of these files; a handshake after they changed uses the new ones.

    Raises:
        ConfigFault: They cannot be read.
    """
    try:
        last = (cert.read_bytes(), key.read_bytes())
    except OSError as error:
        raise ConfigFault(f"WFE_GRPC_TLS_CERT, WFE_GRPC_TLS_KEY: cannot be read: {error.strerror}") from error
    first = _configuration(*last)

    def renewed() -> Any:
        nonlocal last
        try:
            now = (cert.read_bytes(), key.read_bytes())
        except OSError:
            return None  # being replaced at this moment: the old one does
        if now == last:
            return None
        last = now
        return _configuration(*now)

    return grpc.dynamic_ssl_server_credentials(first, renewed)


def _configuration(cert: bytes, key: bytes) -> Any:
    return grpc.ssl_server_certificate_configuration([(key, cert)])


class Probes:
    """`grpc.health.v1` on a port of its own, without TLS and without anything else: what kubelets can ask."""

    def __init__(self, readiness: Any) -> None:
        self._readiness = readiness
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; gives the port.

        Raises:
            ConfigFault: It cannot be listened on.
        """
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self._readiness.servicer, server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            opened = int(server.add_insecure_port(address))
        except RuntimeError as error:
            raise ConfigFault(f"WFE_HEALTH_PORT: cannot listen on {address}: is it in use?") from error
        await server.start()
        self._server = server
        return opened

    async def stop(self) -> None:
        """Stop listening. Safe to repeat."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)
