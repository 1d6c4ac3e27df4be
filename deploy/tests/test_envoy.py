"""The gateway's init container makes a configuration that Envoy accepts, the same code `wfe up` runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from wfe_gateway.config import GatewaySettings
from wfe_gateway.envoy import find_envoy

from .certificates import write
from .conftest import objects, pods


def test_envoy_accepts_what_the_init_container_writes(overlay, rendered, tmp_path):
    found = {one["metadata"]["name"]: one for one in objects(overlay) if one["kind"] == "ConfigMap"}
    environment = dict(found["wfe-gateway"]["data"])
    write(tmp_path / "secrets" / "tls", "gateway")
    environment = {name: value.replace("/secrets/", f"{tmp_path}/secrets/") for name, value in environment.items()}
    init = pods(rendered)["gateway"]["spec"]["initContainers"][0]
    shell, option, text = init["command"]
    # The program beside this Python, and a folder of this test, in place of the image's.
    text = text.replace("wfe-gateway", str(Path(sys.executable).with_name("wfe-gateway")))
    text = text.replace("/config/", f"{tmp_path}/")
    ended = subprocess.run(
        [shell, option, text],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    line = [str(find_envoy(GatewaySettings())), "--mode", "validate", "-c", str(tmp_path / "envoy.json")]
    ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    written = (tmp_path / "envoy.json").read_text()
    assert str(Path(sys.executable).parents[1]) not in written, "it would need files that Envoy's image does not have"
