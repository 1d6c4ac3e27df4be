"""The executor's process."""

from __future__ import annotations

import sys

import uvloop
from wfe_servicekit import logs
from wfe_servicekit.settings import load

from wfe_executor.app import serve
from wfe_executor.config import Settings


def main() -> None:
    """Read the settings and run; exit status 0 after a signal, 2 for faults in the settings."""
    settings = load(Settings)
    logs.configure("executor", settings.log_level, settings.log_format)
    sys.exit(uvloop.run(serve(settings)))


if __name__ == "__main__":
    main()
