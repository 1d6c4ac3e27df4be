"""The approvals service's process."""

from __future__ import annotations

from wfe_servicekit.lifecycle import Stack, run
from wfe_servicekit.logs import configure
from wfe_servicekit.settings import load

from wfe_approvals.app import serve
from wfe_approvals.config import ApprovalsSettings


def main() -> None:
    """Run until a signal; exit status 0 after one, 1 after a failure, 2 for faults in the settings."""
    settings = load(ApprovalsSettings)
    configure("approvals", settings.log_level, settings.log_format)

    async def start(stack: Stack) -> None:
        await serve(stack, settings)

    run(start)
