"""`wfe-scheduler`: one scheduler process."""

from __future__ import annotations

from wfe_servicekit.lifecycle import run
from wfe_servicekit.logs import configure
from wfe_servicekit.settings import load

from wfe_scheduler.app import serve
from wfe_scheduler.config import SchedulerSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load(SchedulerSettings)
    configure("scheduler", settings.log_level, settings.log_format)
    run(lambda stack: serve(stack, settings))
