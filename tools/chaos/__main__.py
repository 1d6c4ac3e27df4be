"""`make chaos`: a sitting of CHAOS_MINUTES (10) with CHAOS_SEED; exit code 1 when something was violated."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from pathlib import Path

import uvloop

from tools.chaos.sitting import Settings, report, sit


def main() -> int:
    """Do it, and say what came of it."""
    logging.basicConfig(level=logging.WARNING)
    settings = Settings(
        seconds=60 * float(os.environ.get("CHAOS_MINUTES", "10")),
        seed=int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1 << 31)),
        clients=int(os.environ.get("CHAOS_CLIENTS", "48")),
        keep=Path("build/chaos"),
    )
    print(f"seed {settings.seed}", flush=True)
    result = uvloop.run(sit(settings))
    print(report(result, settings))
    if result.violations:
        print(f"the history and the logs are in {settings.keep}")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
