"""`wfe-scheduler`: one scheduler process."""

from __future__ import annotations

from wfe_servicekit import lifecycle

from wfe_scheduler import app


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    lifecycle.run(app.main)
