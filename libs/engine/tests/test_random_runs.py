"""Whatever happens to a run of whatever plan: the fold gives the state, reading it back changes nothing, it ends."""

from __future__ import annotations

import random

import pytest
from random_runs import Life, random_plan

RUNS = 300


@pytest.mark.parametrize("block", range(10))
def test_random_runs_keep_their_promises(block, make_run_of):
    for seed in range(block * RUNS // 10, (block + 1) * RUNS // 10):
        rng = random.Random(seed)
        run = make_run_of(random_plan(rng))
        life = Life(run, rng)
        try:
            run.start(run.now + rng.random() * 60 if rng.random() < 0.2 else None)
            life.snapshots.clear()
            for _ in range(rng.randint(5, 60)):
                life.step()
            life.finish()
        except BaseException as fault:
            fault.add_note(f"seed {seed}")
            raise
