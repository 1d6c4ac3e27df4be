"""Run it: `make sim`, `make sim-planted`.

Every example is a world of its own, given by its seed: `make sim ARGS="--seed 7 --examples 1"` lives one again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

#: Names of sets and dicts come in another order otherwise, and an example must be the same every time.
HASH_SEED = "0"


def main() -> int:
    """Look for broken promises; 1 when there are any, 0 otherwise."""
    parser = argparse.ArgumentParser(prog="make sim")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SIM_SEED", "1")))
    parser.add_argument("--seconds", type=float, help="60, or SIM_SECONDS; with --planted 600 for all of them")
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
        from tests.sim.hunt import hunt

        return hunt(options.seconds or 600.0)
    seconds = options.seconds or float(os.environ.get("SIM_SECONDS", "60"))
    return _look(options.seed, options.examples, seconds, options.plant)


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


if __name__ == "__main__":
    sys.exit(main())
