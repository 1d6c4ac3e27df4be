"""TLS on the port, certificates renewed under it, and a port for probes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wfe_servicekit.auth import Authenticator
from wfe_servicekit.health import READY, Readiness
from wfe_servicekit.server import build_server
from wfe_servicekit.settings import ConfigFault
from wfe_servicekit.testing import MemoryDirectory, make_settings


def certificate(folder: Path) -> bytes:
    """Write a new self-signed certificate for localhost; gives it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.key").write_bytes(private)
    (folder / "tls.crt").write_bytes(pem)
    return pem


async def start(readiness: Readiness, **more):
    server = build_server(make_settings(**more), [], Authenticator(MemoryDirectory()), {}, readiness=readiness)
    await server.start()
    return server


async def ask(channel, service=""):
    async with channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def secure(server, pem):
    return grpc.aio.secure_channel(f"localhost:{server.port}", grpc.ssl_channel_credentials(pem))


async def test_tls_and_a_renewed_certificate(tmp_path):
    old = certificate(tmp_path)
    tls = {"grpc_tls_cert": tmp_path / "tls.crt", "grpc_tls_key": tmp_path / "tls.key"}
    server = await start(Readiness(), **tls)
    try:
        assert await ask(secure(server, old)) == "SERVING"
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(grpc.aio.insecure_channel(f"localhost:{server.port}"))
        new = certificate(tmp_path)
        assert await ask(secure(server, new)) == "SERVING"
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(secure(server, old))
    finally:
        await server.stop(0)


async def test_probes_are_answered_without_tls_and_nothing_else_is(tmp_path):
    certificate(tmp_path)
    tls = {"grpc_tls_cert": tmp_path / "tls.crt", "grpc_tls_key": tmp_path / "tls.key"}
    broken = True

    async def ping():
        if broken:
            raise ConnectionError

    readiness = Readiness(interval=0.05)
    readiness.add("store", ping)
    server = await start(readiness, health_port=0, **tls)
    address = f"127.0.0.1:{server.health_port}"
    try:
        # Alive whatever becomes of the store; not ready without it.
        assert await ask(grpc.aio.insecure_channel(address)) == "SERVING"
        assert await ask(grpc.aio.insecure_channel(address), READY) == "NOT_SERVING"
        broken = False
        await readiness.check()
        assert await ask(grpc.aio.insecure_channel(address), READY) == "SERVING"
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary("/wfe.api.v1.WorkflowService/ListWorkflows")(b"")
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await server.stop(0)


async def test_files_that_are_not_there_are_named(tmp_path):
    tls = {"grpc_tls_cert": tmp_path / "tls.crt", "grpc_tls_key": tmp_path / "tls.key"}
    with pytest.raises(ConfigFault, match="WFE_GRPC_TLS_CERT"):
        await start(Readiness(), **tls)
