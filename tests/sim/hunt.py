"""Planting every known bug, and seeing that the simulation finds each in a given time.

Each is looked for in forks of a process that has the libraries in memory but nothing of the engine: all of them for a
while, then those that were not found for twice as long, and so on. Time is the processors', so that a busy machine
finds as much as an idle one. A bug counts as found only if the example that shows it is a good one without the bug.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable

from tests.sim.planted import BUGS, Bug, check, plant

#: What takes long to import and is not the engine.
LIBRARIES = ("sqlalchemy.dialects.postgresql", "psycopg", "nats.aio.client", "structlog", "msgspec")
#: Seconds for which every bug is looked for before those that were not found get more.
SLICE_SECONDS = 4.0


class Hunt:
    """What is known of one bug.

    Attributes:
        examples: Looked at so far.
        seconds: Of a processor, spent so far.
        found: Seed of the example that shows it; 0 while none does.
        what: That example's violation.
    """

    def __init__(self, bug: Bug) -> None:
        self.bug = bug
        self.examples = 0
        self.seconds = 0.0
        self.found = 0
        self.what = ""

    def line(self, word: str) -> str:
        """A line of the list."""
        what = self.what[:120] or f"not in {self.examples} examples"
        return f"{word:7}{self.bug.mode:5}{self.seconds:6.1f} s  {self.bug.name}: {what}"


def hunt(seconds: float) -> int:
    """Look for every bug, and print the list; 0 when all were found, 1 when not, 2 when one could not be planted.

    Args:
        seconds: For all of it, with all processors.
    """
    for module in LIBRARIES:
        importlib.import_module(module)
    wrong = check()
    for sentence in wrong:
        print(f"ERROR  {sentence}")
    if wrong:
        return 2
    processors = os.cpu_count() or 1
    began, budget, slice_ = time.monotonic(), seconds * processors, SLICE_SECONDS
    hunts = [Hunt(bug) for bug in BUGS]
    while left := [one for one in hunts if not one.found]:
        spent = sum(one.seconds for one in hunts)
        if spent >= budget or not _round(left, min(slice_, (budget - spent) / len(left)), processors):
            break
        slice_ *= 2
    bad = _bad_anyway({one.found for one in hunts if one.found})
    for one in hunts:
        if one.found in bad:
            one.what, one.found = f"example {one.found} fails without it, too", 0
        if not one.found:
            print(one.line("MISSED"))
    found, spent = sum(bool(one.found) for one in hunts), sum(one.seconds for one in hunts) / processors
    print(
        f"{found} of {len(BUGS)} planted bugs found in {spent:.0f} s of {processors} processors,"
        f" {time.monotonic() - began:.0f} s by the clock"
    )
    return 0 if found == len(BUGS) else 1


def _round(hunts: list[Hunt], seconds: float, at_once: int) -> bool:
    """Look for each for so long; False when one could not be."""
    waiting, under_way = list(hunts), dict[int, tuple[Hunt, int]]()
    while waiting or under_way:
        while waiting and len(under_way) < at_once:
            one = waiting.pop(0)
            child, out = _fork(lambda one=one: _look(one.bug.name, one.examples + 1, seconds))  # type: ignore[misc]
            under_way[child] = one, out
        child, status, used = os.wait4(-1, 0)
        one, out = under_way.pop(child)
        with os.fdopen(out) as file:
            said = file.read().splitlines() or ["it said nothing"]
        one.seconds += used.ru_utime + used.ru_stime
        examples, _, what = said[-1].partition(" ")
        if os.waitstatus_to_exitcode(status) != 0 or not examples.isdigit():
            print(f"ERROR  {one.bug.name}: {said[-1]}", flush=True)
            return False
        one.examples += int(examples)
        if what:
            one.found, one.what = one.examples, what
            print(one.line("found"), flush=True)
    return True


def _look(bug: str, first: int, seconds: float) -> str:
    """Look for a bug; gives the number of examples, and what the last of them broke."""
    plant(bug)
    from tests.sim.world import World

    end, seed = time.process_time() + seconds, first
    while True:
        violations = World(seed).run()
        if violations or time.process_time() > end:
            return f"{seed - first + 1} " + (f"example {seed}: {violations[0]}" if violations else "")
        seed += 1


def _bad_anyway(seeds: set[int]) -> set[int]:
    """Those examples that are broken without any bug."""

    def look() -> str:
        from tests.sim.world import World

        return " ".join(str(seed) for seed in sorted(seeds) if World(seed).run())

    _, out = _fork(look)
    with os.fdopen(out) as file:
        said = file.read()
    os.wait()
    return {int(seed) for seed in said.split()}


def _fork(work: Callable[[], str]) -> tuple[int, int]:
    """Do something in a process of its own; gives its id, and what it writes the answer to."""
    out, into = os.pipe()
    child = os.fork()
    if child:
        os.close(into)
        return child, out
    code = 2
    try:
        answer = work()
        code = 0
    except BaseException as fault:
        answer = repr(fault)
    with os.fdopen(into, "w") as file:
        file.write(answer.replace("\n", " "))
    sys.stdout.flush()
    os._exit(code)
