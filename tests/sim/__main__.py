"""Run it: `make sim`, `make sim-planted`.

Every example is a world of its own, given by its seed: `make sim ARGS="--seed 7 --examples 1"` lives one again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from typing import Any

#: Names of sets and dicts come in another order otherwise, and an example must be the same every time.
HASH_SEED = "0"

#: What takes long to import and is not the engine.
LIBRARIES = ("sqlalchemy.dialects.postgresql", "psycopg", "nats.aio.client", "structlog", "msgspec")


def main() -> int:
    """Look for broken promises; 1 when there are any, 0 otherwise."""
    parser = argparse.ArgumentParser(prog="make sim")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SIM_SEED", "1")))
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SIM_SECONDS", "60")))
    parser.add_argument("--examples", type=int, default=10**9, help="at most so many")
    parser.add_argument("--plant", default="", metavar="BUG", help="plant one bug first; see tests/sim/planted.py")
    parser.add_argument("--planted", action="store_true", help="plant every bug in turn, and say which are found")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.sim", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": HASH_SEED},
        )
    if options.planted:
        return _planted(options.seconds)
    return _look(options.seed, options.examples, options.seconds, options.plant)


def _look(first: int, examples_at_most: int, seconds: float, bug: str) -> int:
    if bug:
        from tests.sim.planted import plant

        plant(bug)
    from tests.sim.coverage import Coverage
    from tests.sim.world import World

    end, coverage = time.monotonic() + seconds, Coverage()
    print(f"seed {first}", flush=True)
    examples = transactions = 0
    for seed in range(first, first + examples_at_most):
        world = World(seed)
        violations = world.run()
        examples += 1
        transactions += world.checker.count
        coverage.add(world.coverage)
        if violations:
            print(f"example {seed}: {violations[0]}")
            print(f"{examples} examples, {transactions} transactions, {len(violations)} violations")
            print(f'again: make sim ARGS="--seed {seed} --examples 1"')
            return 1
        if time.monotonic() > end:
            break
    print("\n".join(coverage.lines()))
    print(f"{examples} examples, {transactions} transactions, 0 violations")
    return 0


def _planted(seconds: float) -> int:
    """Every bug in a fork of this process, which has the libraries in memory but nothing of the engine."""
    for module in LIBRARIES:
        importlib.import_module(module)
    from tests.sim.planted import BUGS

    began, waiting, missed = time.monotonic(), list(BUGS), 0
    under_way: dict[int, tuple[Any, int, float]] = {}
    while waiting or under_way:
        while waiting and len(under_way) < (os.cpu_count() or 1):
            bug, (out, into) = waiting.pop(0), os.pipe()
            child = os.fork()
            if child == 0:
                os.dup2(into, 1)
                code = 2
                try:
                    code = _look(1, 10**9, seconds, bug.name)
                finally:
                    sys.stdout.flush()
                    os._exit(code)
            os.close(into)
            under_way[child] = bug, out, time.monotonic()
        child, status = os.wait()
        bug, out, start = under_way.pop(child)
        with os.fdopen(out) as said:
            what = next((line for line in said if line.startswith("example ")), "").strip()
        found = os.waitstatus_to_exitcode(status) == 1 and bool(what)
        missed += not found
        took = time.monotonic() - start
        print(f"{'found' if found else 'MISSED':7}{bug.mode:5}{took:6.1f} s  {bug.name}: {what[:140]}", flush=True)
    print(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs found in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
