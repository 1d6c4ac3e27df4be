"""Run it: `make sim`, `make sim-planted`.

Every example is a world of its own, given by its seed: `make sim ARGS="--seed 7 --examples 1"` lives one again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time

#: Names of sets and dicts come in another order otherwise, and an example must be the same every time.
HASH_SEED = "0"

#: For which every planted bug is looked for before those that were not found get more.
SLICE_SECONDS = 12.0
#: What takes long to import and is not the engine.
LIBRARIES = ("sqlalchemy.dialects.postgresql", "psycopg", "nats.aio.client", "structlog", "msgspec")


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
        return _planted(options.seconds or 600.0)
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


def _planted(seconds: float) -> int:
    """Every bug in forks of this process, which has the libraries in memory but nothing of the engine.

    Looked for are all of them for a while, then those that were not found for twice as long, and so on.
    """
    for module in LIBRARIES:
        importlib.import_module(module)
    from tests.sim.planted import BUGS, check

    for sentence in (wrong := check()):
        print(f"ERROR  {sentence}")
    if wrong:
        return 2
    began, missed = time.monotonic(), {bug.name: bug for bug in BUGS}
    first, spent, slice_ = dict.fromkeys(missed, 1), dict.fromkeys(missed, 0.0), SLICE_SECONDS
    while missed and time.monotonic() - began < seconds:
        waiting, under_way = list(missed.values()), {}
        while waiting or under_way:
            left = seconds - (time.monotonic() - began)
            if left <= 0:
                waiting = []
            while waiting and len(under_way) < (os.cpu_count() or 1):
                bug = waiting.pop(0)
                child, out = _fork(bug.name, first[bug.name], min(slice_, left))
                under_way[child] = bug, out, time.monotonic()
            if not under_way:
                break
            child, status = os.wait()
            bug, out, start = under_way.pop(child)
            with os.fdopen(out) as file:
                said = file.read().splitlines()
            spent[bug.name] += time.monotonic() - start
            what = next((line for line in said if line.startswith("example ")), "")
            looked = next((int(line.split()[0]) for line in said if " examples, " in line), 0)
            first[bug.name] += looked
            if os.waitstatus_to_exitcode(status) == 1 and what:
                del missed[bug.name]
                print(f"found  {bug.mode:5}{spent[bug.name]:6.1f} s  {bug.name}: {what[:140]}", flush=True)
            elif not looked:
                print(f"ERROR  {bug.name}: " + "; ".join(said[-1:]), flush=True)
                return 2
        slice_ *= 2
    for name, bug in missed.items():
        print(f"MISSED {bug.mode:5}{spent[name]:6.1f} s  {name}: in {first[name] - 1} examples")
    print(f"{len(BUGS) - len(missed)} of {len(BUGS)} planted bugs found in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


def _fork(bug: str, first: int, seconds: float) -> tuple[int, int]:
    """Look for a bug in a process of its own; gives its id and what it prints to."""
    out, into = os.pipe()
    child = os.fork()
    if child:
        os.close(into)
        return child, out
    os.dup2(into, 1)
    code = 2
    try:
        code = _look(first, 10**9, seconds, bug)
    except BaseException as fault:
        print(repr(fault))
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
