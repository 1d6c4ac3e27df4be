"""Executors that die in the middle of steps: others finish them, once, and nobody's attempts are used up."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

from e2e_runs import moment, path_of, step_of, types, until
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for

CHAIN = """
name: e2e-three-calls
variables: {witness: {type: string}, n: {type: integer}}
defaults: {retry: {max_attempts: 1}}
steps:
  - {id: a, http: {url: "${{ vars.witness }}/${{ vars.n }}-a"}}
  - {id: b, http: {url: "${{ vars.witness }}/${{ vars.n }}-b"}}
  - {id: c, http: {url: "${{ vars.witness }}/${{ vars.n }}-c"}}
"""
RUNS = 12
#: What a lost step may take beyond its lease.
BEYOND_SECONDS = 2.0

DEADLY = """
name: e2e-deadly
variables: {file: {type: string}}
steps:
  - {id: deadly, call: {handler: kill_executor, input: {file: "${{ vars.file }}"}}}
"""


async def test_steps_of_a_killed_executor_are_finished_by_another(stack, lease_seconds, sam: Rest, publish, witness):
    template = await publish(CHAIN)
    places = {f"{n}-{step}": witness[f"{n}-{step}"] for n in range(RUNS) for step in "abc"}
    for name, place in places.items():
        place.delay = 0.05
        # Half the runs are caught in their second step, half in their third.
        if name[-1] == ("b" if int(name[:-2]) % 2 else "c"):
            place.hold()
    runs = await asyncio.gather(
        *(sam.start({"template_id": template, "input": {"witness": witness.url, "n": n}}) for n in range(RUNS))
    )
    held = [place for place in places.values() if not place.gate.is_set()]
    await wait_for(lambda: all(place.calls for place in held), what="a step of each run in flight")

    killed = time.time()
    await stack.kill("executor")
    for place in held:
        place.release()
    await stack.restart("executor", ready=False)
    done = await asyncio.gather(*(sam.wait_ended(run["id"]) for run in runs))
    took = max(moment(run["ended_at"]) for run in done) - killed
    print(f"\n{RUNS} runs completed {took:.2f} s after their executor was killed; the lease is {lease_seconds:g} s")
    assert {run["status"] for run in done} == {"completed"}
    assert took < lease_seconds + BEYOND_SECONDS

    for n, run in enumerate(done):
        lost = "b" if n % 2 else "c"
        for step in run["steps"]:
            calls = witness[f"{n}-{step['path']}"]
            assert (step["attempts"], step["lease_losses"]) == (1, int(step["path"] == lost))
            assert len(calls.calls) == 1 + int(step["path"] == lost)
            assert len(set(calls.keys)) == 1
        assert types(run).count("step.completed") == len(run["steps"]) == 3
        assert Counter(event["data"]["step"] for event in run["events"] if event["type"] == "step.completed") == {
            "a": 1, "b": 1, "c": 1
        }  # fmt: skip


async def test_a_step_that_kills_its_executors_fails_after_five_lost_leases(crash_stack, publish, tmp_path):
    file = tmp_path / "starts"
    async with Rest(crash_stack.url, crash_stack.keys["sam"]) as sam:
        run = await sam.start({"template_id": await publish(DEADLY, sam), "input": {"file": str(file)}})
        for _ in range(5):
            await wait_for(lambda: "executor" not in crash_stack.pids, seconds=90, what="the death of the executor")
            await crash_stack.restart("executor", ready=False)
        # The one that is running now is spared.
        failed = await sam.wait_ended(run["id"])
        await crash_stack.ready()
    assert (failed["status"], failed["reason"], failed["error"]["code"]) == ("failed", "leases_lost", "LEASES_LOST")
    deadly = step_of(failed, "deadly")
    assert (deadly["status"], deadly["lease_losses"], deadly["attempts"]) == ("failed", 5, 0)
    starts = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(starts) == len({start["pid"] for start in starts}) == 5
    assert len({start["key"] for start in starts}) == 1
    assert {start["attempt"] for start in starts} == {1}


async def test_an_executor_that_ends_gives_back_what_it_cannot_finish(crash_stack, publish, witness):
    """Uncounted, and of a paused run for the moment of its resume."""
    places = [witness[f"{n}-a"] for n in (1, 2)]
    async with Rest(crash_stack.url, crash_stack.keys["sam"]) as sam:
        template = await publish(CHAIN, sam)
        runs = []
        for n, place in enumerate(places, 1):
            place.hold()
            given = {"witness": witness.url, "n": n}
            runs.append((await sam.start({"template_id": template, "input": given}))["id"])
        await wait_for(lambda: all(place.calls for place in places), what="a step of each run in flight")
        paused, going_on = runs
        await sam.post(path_of(paused, "pause"))
        await crash_stack.terminate("executor")
        for run in runs:
            given_back = await until(sam, run, lambda found: step_of(found, "a")["status"] == "ready")
            assert (step_of(given_back, "a")["lease_losses"], step_of(given_back, "a")["attempts"]) == (0, 0)
        for place in places:
            place.release()
        await crash_stack.restart("executor")
        assert (await sam.wait_ended(going_on))["status"] == "completed"
        assert len(places[0].calls) == 1
        resumed = await sam.post(path_of(paused, "resume"))
        assert "due_at" not in step_of(resumed, "a")
        done = await sam.wait_ended(paused)
    assert done["status"] == "completed"
    assert (step_of(done, "a")["lease_losses"], step_of(done, "a")["attempts"]) == (0, 1)
    for place in places:
        assert len(place.calls) == 2
        assert len(set(place.keys)) == 1
