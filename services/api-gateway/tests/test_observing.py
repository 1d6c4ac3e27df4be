"""Envoy's metrics and traces, as configuration that Envoy itself accepts."""

from __future__ import annotations

import subprocess

import pytest
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
