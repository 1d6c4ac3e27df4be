"""Envoy's metrics and traces, as configuration that Envoy itself accepts."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from aiohttp import web
from pydantic import ValidationError
from wfe_gateway.config import GatewaySettings
from wfe_gateway.envoy import command, write_config
from wfe_gateway.render import bootstrap


def settings(tmp_path, **more):
    return GatewaySettings(config_file=tmp_path / "envoy.json", admin=f"unix:{tmp_path / 'admin'}", **more)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4318", "http://collector:4318", "https://collector.example"])
def test_envoy_accepts_it(tmp_path, endpoint):
    found = settings(tmp_path, metrics_port=9900, otlp_endpoint=endpoint)
    line = command(found, write_config(found), validate=True)
    ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_off_unless_configured(tmp_path):
    tree = bootstrap(settings(tmp_path))
    assert [listener["name"] for listener in tree["static_resources"]["listeners"]] == ["rest", "grpc"]
    assert "tracing" not in str(tree)


def test_metrics_need_the_admin_interface():
    with pytest.raises(ValidationError, match="needs WFE_GATEWAY_ADMIN"):
        GatewaySettings(metrics_port=9900)


async def test_no_trace_holds_a_token_of_a_link_or_a_callback(start_gateway, services):
    told: list[bytes] = []
    sent = asyncio.Event()

    async def take(request):
        told.append(await request.read())
        if b"readyz" in told[-1].lower() or b"GetReadiness" in told[-1]:
            sent.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        more = {"otlp_endpoint": f"http://127.0.0.1:{port}", "trace_ratio": "1"}
        async with start_gateway(services[0].port, services[1].port, **more) as gateway:
            browser = {"accept": "text/html"}
            for verb, path, headers in (
                ("GET", "/api/v1/links/wfl_secret-1", {}), ("GET", "/api/v1/links/wfl_secret-1", browser),
                ("GET", "/api/v1/links/wfl_secret-1/page", {}), ("DELETE", "/api/v1/links/wfl_secret-1", {}),
                ("GET", "/api/v1/links/x?token=wfl_secret-1", {}), ("POST", "/api/v1/callbacks/wfc_secret-1", {}),
                ("GET", "/api/v1/callbacks/wfc_secret-1", {}),
            ):  # fmt: skip
                await gateway.call(verb, path, {} if verb == "POST" else None, headers)
            for _ in range(200):  # spans go out when there are enough of them, or after a while
                await gateway.call("GET", "/readyz")
                if sent.is_set():
                    break
            async with asyncio.timeout(20):
                await sent.wait()
    finally:
        await runner.cleanup()
    assert told
    assert not [body for body in told if b"secret-1" in body]
