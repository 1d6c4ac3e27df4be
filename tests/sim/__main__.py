"""Run it: `make sim`, `make sim-planted`.

Every example is a world of its own, given by its seed: `make sim ARGS="--seed 7 --examples 1"` lives one again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time

#: Names of sets and dicts come in another order otherwise, and an example must be the same every time.
HASH_SEED = "0"


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
        os.execve(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]], os.environ | {"PYTHONHASHSEED": HASH_SEED})  # noqa: E501
    if options.planted:
        return asyncio.run(_planted(options.seconds))
    if options.plant:
        from tests.sim.planted import plant

        plant(options.plant)
    from tests.sim.world import World

    end = time.monotonic() + options.seconds
    print(f"seed {options.seed}", flush=True)
    examples = transactions = 0
    for seed in range(options.seed, options.seed + options.examples):
        world = World(seed)
        violations = world.run()
        examples += 1
        transactions += world.checker.count
        if violations:
            print(f"example {seed}: {violations[0]}")
            print(f"{examples} examples, {transactions} transactions, {len(violations)} violations")
            print(f'again: make sim ARGS="--seed {seed} --examples 1"')
            return 1
        if time.monotonic() > end:
            break
    print(f"{examples} examples, {transactions} transactions, 0 violations")
    return 0


async def _planted(seconds: float) -> int:
    from tests.sim.planted import BUGS

    began, slots = time.monotonic(), asyncio.Semaphore(os.cpu_count() or 1)

    async def look(name: str) -> tuple[int, str, float]:
        async with slots:
            start = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.sim", "--plant", name, "--seconds", str(seconds),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said = (await process.communicate())[0].decode().splitlines()
            what = next((line for line in said if line.startswith("example ")), said[-1] if said else "")
            found = process.returncode == 1 and what.startswith("example ")
            return (0 if found else 1), what, time.monotonic() - start

    async def row(bug: object) -> int:
        missed, what, took = await look(bug.name)  # type: ignore[attr-defined]
        print(f"{'MISSED' if missed else 'found':7}{bug.mode:5}{took:6.1f} s  {bug.name}: {what[:140]}", flush=True)  # type: ignore[attr-defined]
        return missed

    missed = sum(await asyncio.gather(*(row(bug) for bug in BUGS)))
    print(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs found in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
