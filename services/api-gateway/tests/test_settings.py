"""Settings, what they make of the configuration, and the command line."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import aiohttp
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError
from wfe_gateway.config import Address, GatewaySettings, Pipe
from wfe_gateway.envoy import EnvoyMissing, command, find_envoy, write_config
from wfe_gateway.render import bootstrap, render


@pytest.fixture
def settings(monkeypatch):
    """Settings of an environment with these variables and no others."""

    for name in [name for name in os.environ if name.startswith("WFE_GATEWAY_")]:
        monkeypatch.delenv(name)

    def make(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"WFE_GATEWAY_{name.upper()}", value)
        return GatewaySettings()

    return make


def clusters(settings):
    return {one["name"]: one for one in bootstrap(settings)["static_resources"]["clusters"]}


def routes(settings, listener):
    (found,) = (one for one in bootstrap(settings)["static_resources"]["listeners"] if one["name"] == listener)
    manager = found["filter_chains"][0]["filters"][0]["typed_config"]
    return manager["route_config"]["virtual_hosts"][0]["routes"]


@pytest.mark.parametrize(
    ("text", "host", "port"), [("a.b:1", "a.b", 1), ("127.0.0.1:2", "127.0.0.1", 2), ("[::1]:3", "::1", 3)]
)
def test_addresses(text, host, port):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scheduler", "nowhere"),
        ("scheduler", "http://x:1"),
        ("scheduler", "x:99999"),
        ("approvals", ","),
        ("rest_host", "localhost"),
        ("rest_port", "70000"),
        ("admin", "0.0.0.0:9901"),
        ("admin", "localhost:9901"),
        ("timeout_seconds", "60"),
        ("tls_cert", "/cert.pem"),
    ],
)
def test_wrong_settings_are_refused(settings, name, value):
    with pytest.raises(ValidationError):
        settings(**{name: value})


def test_every_fault_is_printed_with_its_variable(monkeypatch):
    monkeypatch.setenv("WFE_GATEWAY_SCHEDULER", "nowhere")
    monkeypatch.setenv("WFE_GATEWAY_REST_PORT", "x")
    line = [sys.executable, "-c", "from wfe_gateway.main import main; main(['render'])"]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert not ended.stdout
    assert "WFE_GATEWAY_SCHEDULER: must be host:port" in ended.stderr
    assert "WFE_GATEWAY_REST_PORT" in ended.stderr


def test_names_are_resolved_and_addresses_are_not(settings):
    found = clusters(settings(scheduler="10.0.0.1:1,10.0.0.2:1", approvals="approvals.wfe.svc:2"))
    assert found["scheduler"]["type"] == "STATIC"
    assert len(found["scheduler"]["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 2
    assert found["approvals"]["type"] == "STRICT_DNS"


def test_streams_have_no_timeout_and_other_calls_have(settings):
    for listener in ("rest", "grpc"):
        by_match = {json.dumps(one["match"]): one.get("route") for one in routes(settings(), listener)}
        watch = by_match['{"path": "/wfe.api.v1.WorkflowService/WatchWorkflow"}']
        assert (watch["timeout"], watch["idle_timeout"]) == ("0s", "0s")
        other = by_match['{"prefix": "/wfe.api.v1.WorkflowService/"}']
        assert other["timeout"] == "75s"
        assert "idle_timeout" not in other


def test_the_exact_route_of_a_stream_comes_before_its_services(settings):
    matches = [json.dumps(one["match"]) for one in routes(settings(), "rest")]
    watch = matches.index('{"path": "/wfe.api.v1.WorkflowService/WatchWorkflow"}')
    assert watch < matches.index('{"prefix": "/wfe.api.v1.WorkflowService/"}')


def test_the_admin_interface_is_off_unless_asked_for(settings):
    assert "admin" not in bootstrap(settings())
    assert settings(admin="unix:/run/admin").admin == Pipe("/run/admin")
    assert settings(admin="127.0.0.1:9901").admin == Address("127.0.0.1", 9901)


def test_a_self_contained_configuration_names_no_file(settings):
    assert '"filename"' in render(settings())
    text = render(settings(), self_contained=True)
    assert '"filename"' not in text
    assert '"proto_descriptor"' not in text


@pytest.mark.parametrize("self_contained", [False, True])
def test_envoy_accepts_every_setting(settings, tmp_path, self_contained):
    cert, key = certificate(tmp_path)
    made = settings(
        scheduler="scheduler.wfe.svc:9101,[::1]:9101",
        tls_cert=str(cert),
        tls_key=str(key),
        admin="127.0.0.1:9901",
        health_check_seconds="5",
        access_log="/dev/stdout",
        trusted_hops="1",
        max_heap_mib="0",
        config_file=str(tmp_path / "deep" / "envoy.json"),
    )
    config = write_config(made)
    config.write_text(render(made, self_contained=self_contained))
    ended = subprocess.run(command(made, config, validate=True), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "deprecated" not in ended.stderr.lower()


def test_a_missing_envoy_is_said(settings, tmp_path):
    with pytest.raises(EnvoyMissing, match="WFE_GATEWAY_ENVOY"):
        find_envoy(settings(envoy=str(tmp_path / "none")))


async def test_tls_on_both_ports(start_gateway, services, scheduler, tmp_path):
    cert, key = certificate(tmp_path)
    ports = [service.port for service in services]
    async with start_gateway(*ports, tls_cert=str(cert), tls_key=str(key)) as gateway:
        gateway.scheme = "https"
        context = grpc.ssl_channel_credentials(cert.read_bytes())
        trusted = ssl.create_default_context(cafile=str(cert))
        assert (await gateway.call("GET", "/api/v1/workflows", ssl=trusted)).status == 200
        gateway.scheme = "http"
        with pytest.raises(aiohttp.ClientError):
            await gateway.call("GET", "/healthz")
        async with grpc.aio.secure_channel(f"localhost:{gateway.grpc_port}", context) as channel:
            await channel.unary_unary("/wfe.api.v1.WorkflowService/GetWorkflow")(b"")
    assert [call.method for call in scheduler.calls] == ["ListWorkflows", "GetWorkflow"]


async def test_the_access_log_holds_no_query_and_no_credentials(start_gateway, services, scheduler, tmp_path):
    log = tmp_path / "access.log"
    async with start_gateway(*(service.port for service in services), access_log=str(log)) as gateway:
        headers = {"authorization": "Bearer topsecret"}
        await gateway.call("GET", "/api/v1/workflows?label=private", headers=headers)
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["path"] == "/wfe.api.v1.WorkflowService/ListWorkflows"
    assert json.loads(line)["status"] == 200
    assert "private" not in line
    assert "topsecret" not in line


def certificate(folder):
    """A certificate for localhost that trusts itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


async def test_the_access_log_holds_no_token_of_a_link_or_a_callback_however_wrong_the_call(
    start_gateway, services, tmp_path
):
    log = tmp_path / "access.log"
    paths = [
        ("GET", "/api/v1/links/wfl_secret"), ("GET", "/api/v1/links/wfl_secret/x"), ("GET", "/a/wfl_secret"),
        ("DELETE", "/api/v1/links/wfl_secret"), ("GET", "/api/v1/links/wfl_secret%2Fx"),
        ("GET", "/api/v1/links/wfl_secret?nonsense=1"), ("GET", "/api/v1/links/x?token=wfl_secret"),
        ("GET", "/api/v1/callbacks/secret"), ("POST", "/api/v1/callbacks/secret/x"),
        ("PUT", "/api/v1/callbacks/secret"), ("POST", "/callbacks/secret/"), ("POST", "/api/v1/callback/secret"),
    ]  # fmt: skip
    async with start_gateway(*(service.port for service in services), access_log=str(log)) as gateway:
        for method, path in paths:
            await gateway.call(method, path)
        await gateway.call("GET", "/api/v1/nothing")
    assert len(log.read_text().splitlines()) == len(paths) + 1
    assert "secret" not in log.read_text()
    assert '"path":"/api/v1/nothing"' in log.read_text().replace(": ", ":")
