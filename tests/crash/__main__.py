"""Look at every point: `make crash-points`."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from wfe_stack.postgres import PostgresServer
from wfe_stack.testing import TEST_SETTINGS
from wfe_store.migrate import migrate

from tests.crash.cases import CASES
from tests.crash.points import look


async def _all(url: str, names: list[str]) -> int:
    existing = covered = 0
    wrong: list[str] = []
    for case in CASES:
        if names and case.name not in names:
            continue
        result = await look(url, case)
        existing, covered = existing + result.existing, covered + result.covered
        wrong += result.wrong
        print(f"{case.name:24} {result.covered:4} of {result.existing:4} points, {len(result.wrong)} wrong", flush=True)
    for sentence in wrong[:10]:
        print(sentence)
    print(f"{covered} of {existing} points covered, {len(wrong)} ended otherwise")
    return 1 if wrong else 0


def main() -> int:
    """1 when anything ended otherwise than without a crash."""
    parser = argparse.ArgumentParser(prog="make crash-points")
    parser.add_argument(
        "--case", action="append", default=[], help="only this one; " + ", ".join(c.name for c in CASES)
    )
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="wfe-crash-"))
    try:
        with PostgresServer.start(root / "pg", TEST_SETTINGS) as server:
            migrate(server.url)
            return asyncio.run(_all(server.url, options.case))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
