"""`wfe-gateway`: become Envoy, or show or check the configuration it would get."""

from __future__ import annotations

import argparse
import os
import sys

from wfe_servicekit.settings import load, refuse

from wfe_gateway.config import GatewaySettings
from wfe_gateway.envoy import EnvoyMissing, command, write_config
from wfe_gateway.render import render

__all__ = ["main"]


def main(argv: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        argv: Words after the program's name; those of the process when absent.
    """
    parser = argparse.ArgumentParser(prog="wfe-gateway", description="The workflow engine's gateway, an Envoy.")
    parser.add_argument("action", nargs="?", choices=["run", "render", "validate"], default="run")
    parser.add_argument(
        "--self-contained",
        action="store_true",
        help="render: put the contents of files into the configuration",
    )
    words = parser.parse_args(argv)
    settings = load(GatewaySettings)
    if words.action == "render":
        sys.stdout.write(render(settings, self_contained=words.self_contained))
        return
    try:
        line = command(settings, write_config(settings), validate=words.action == "validate")
    except (EnvoyMissing, OSError) as error:
        refuse(str(error))
    # This process becomes Envoy, so signals reach it and its exit status is what the caller sees.
    os.execv(line[0], line)  # noqa: S606
