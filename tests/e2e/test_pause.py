"""Pause and resume: what is in flight finishes, everything that waits stands still, and nothing is lost by a crash."""

from __future__ import annotations

import asyncio
import time

import pytest
from e2e_runs import decide, event_of, moment, path_of, statuses, step_of, types, until
from e2e_store import Store
from wfe_engine.state import decode_state
from wfe_stack.rest import Rest

#: Everything that waits, for as short as a pause can outlast.
FROZEN = """
name: e2e-frozen
variables: {witness: {type: string}}
timeout: 1h
steps:
  - {id: held, needs: [], http: {url: "${{ vars.witness }}/held"}}
  - {id: after, needs: [held], http: {url: "${{ vars.witness }}/after"}}
  - id: failing
    needs: []
    http: {url: "${{ vars.witness }}/failing"}
    retry: {max_attempts: 2, backoff: fixed, initial: 300ms, jitter: none}
  - id: flaky
    needs: []
    http: {url: "${{ vars.witness }}/flaky"}
    retry: {max_attempts: 2, backoff: fixed, initial: 1500ms, jitter: none}
    timeout: {total: 3s}
  - {id: nap, needs: [], wait: {for: 1500ms}}
  - id: gate
    needs: []
    approval: {title: "Go on?", approvers: {groups: [editors]}, expires: {after: 1500ms, then: approve}}
"""
CALLED = ("held", "after", "failing", "flaky")
#: Longer than every clock above but the run's, with a sweep on top.
PAUSE_SECONDS = 3.2

INTERRUPTED = """
name: e2e-interrupted
variables: {witness: {type: string}}
steps:
  - {id: first, http: {url: "${{ vars.witness }}/first"}}
  - {id: slow, needs: [first], http: {url: "${{ vars.witness }}/slow"}}
  - {id: gate, needs: [first], approval: {title: "Go on?", approvers: {groups: [editors]}}}
  - {id: last, needs: [slow, gate], http: {url: "${{ vars.witness }}/last"}}
"""


async def test_a_pause_lets_what_is_in_flight_finish_and_freezes_the_rest(sam: Rest, store: Store, start, witness):
    witness["held"].hold()
    witness["failing"].hold()
    witness["failing"].answer(503)
    witness["flaky"].answer(503)
    run = await start(FROZEN, witness=witness.url)
    waiting = await until(
        sam,
        run["id"],
        lambda found: (
            "step.retrying" in types(found)
            and found["approvals"]
            and witness["held"].calls
            and witness["failing"].calls
        ),
    )
    frozen = decode_state(await store.state(run["id"]))

    paused = await sam.post(path_of(run["id"], "pause"), {"reason": "lunch"})
    assert paused["status"] == "paused"
    assert paused["notice"] == "2 steps in flight will finish and keep their results; nothing new is claimed"
    witness["held"].release()
    await until(sam, run["id"], lambda found: statuses(found)["held"] == "completed")
    witness["failing"].release()
    await until(sam, run["id"], lambda found: types(found)[-1] == "step.retrying")
    # What is waited for is that nothing happens, while all that could happen would.
    await asyncio.sleep(moment(event_of(paused, "run.paused")["at"]) + PAUSE_SECONDS - time.time())
    still = await sam.get(path_of(run["id"]))
    assert (still["status"], still["runner"]) == ("paused", "hibernating")
    assert "heartbeat_at" not in still
    assert still["approvals"][0]["status"] == "open"
    assert statuses(still) == {
        "held": "completed", "failing": "ready", "flaky": "ready", "nap": "waiting", "gate": "waiting_approval"
    }  # fmt: skip
    assert step_of(still, "held")["output"]["body"]["call"] == 1
    assert types(still)[types(still).index("run.paused") :] == ["run.paused", "step.completed", "step.retrying"]
    assert [len(witness[path].calls) for path in CALLED] == [1, 0, 1, 1]

    resumed = await sam.post(path_of(run["id"], "resume"))
    assert resumed["status"] == "running"
    span = event_of(resumed, "run.resumed")["data"]["paused_for"]
    assert span == pytest.approx(
        moment(event_of(resumed, "run.resumed")["at"]) - moment(event_of(resumed, "run.paused")["at"]), abs=1e-3
    )
    # The new moments, as the log of the run says them: everything is later by the length of the pause.
    done = await sam.wait_ended(run["id"])
    assert done["status"] == "completed"
    log = {event["type"]: event for event in done["events"]}
    at = {(event["type"], event["data"].get("step")): moment(event["at"]) for event in done["events"]}
    assert at["step.completed", "nap"] >= step_due(waiting, "nap") + span - 1e-3
    assert witness["flaky"].calls[1].at >= step_due(waiting, "flaky") + span - 0.01
    # What failed during the pause waits its whole backoff after it.
    assert witness["failing"].calls[1].at >= moment(log["run.resumed"]["at"]) + 0.3 - 0.01
    assert moment(log["approval.expired"]["at"]) >= moment(waiting["approvals"][0]["expires_at"]) + span - 1e-3
    assert moment(done["approvals"][0]["expires_at"]) == pytest.approx(
        moment(waiting["approvals"][0]["expires_at"]) + span, abs=1e-3
    )
    assert decode_state(await store.state(run["id"])).deadline == pytest.approx(frozen.deadline + span, abs=1e-3)
    assert [len(witness[path].calls) for path in CALLED] == [1, 1, 2, 2]
    assert len(set(witness["flaky"].keys)) == 1


def step_due(run, path: str) -> float:
    return moment(step_of(run, path)["due_at"])


async def test_a_paused_run_goes_on_after_every_process_was_killed(crash_stack, publish, witness):
    parts = ("postgres", "nats", "scheduler", "scheduler-2", "approvals", "executor", "gateway")
    async with (
        Rest(crash_stack.url, crash_stack.keys["sam"]) as sam,
        Rest(crash_stack.url, crash_stack.keys["ada"]) as ada,
    ):
        witness["slow"].hold()
        run = await sam.start({"template_id": await publish(INTERRUPTED, sam), "input": {"witness": witness.url}})
        await until(sam, run["id"], lambda found: witness["slow"].calls and found["approvals"])
        paused = await sam.post(path_of(run["id"], "pause"))

        old = dict(crash_stack.pids)
        for part in parts:
            await crash_stack.kill(part)
        assert crash_stack.pids == {}
        witness["slow"].release()
        for part in parts:
            await crash_stack.restart(part, ready=False)
        await crash_stack.ready()
        assert set(crash_stack.pids) == set(parts)
        assert not set(crash_stack.pids.values()) & set(old.values())

        # The lease of the step that was in flight is lost, and still nothing is claimed.
        found = await until(sam, run["id"], lambda found: step_of(found, "slow")["lease_losses"] == 1)
        assert found["status"] == "paused"
        assert statuses(found) == {"first": "completed", "slow": "ready", "gate": "waiting_approval"}
        assert (await decide(ada, found, "approve"))["status"] == "approved"
        found = await until(sam, run["id"], lambda found: statuses(found)["gate"] == "completed")
        assert found["status"] == "paused"
        assert len(witness["slow"].calls) == 1

        witness["slow"].hold()
        await sam.post(path_of(run["id"], "resume"))
        # Ready at once, not after as long again as the pause took.
        [(late,)] = await Store(crash_stack.database_url).rows(
            "SELECT greatest(0, extract(epoch FROM available_at - clock_timestamp()))::float8 FROM dispatch"
            " WHERE run_id = %s AND path = 'slow'",
            run["id"],
        )
        assert late == 0
        witness["slow"].release()
        done = await sam.wait_ended(run["id"])
    assert done["status"] == "completed"
    assert done["events_total"] > paused["events_total"]
    assert [len(witness[path].calls) for path in ("first", "slow", "last")] == [1, 2, 1]
    assert len(set(witness["slow"].keys)) == 1
    assert step_of(done, "slow")["attempts"] == 1


async def test_what_one_scheduler_has_decided_the_others_know(crash_stack, publish, witness):
    """Both have seen the run, and the gateway asks them in turn."""
    async with Rest(crash_stack.url, crash_stack.keys["sam"]) as sam:
        witness["slow"].hold()
        run = await sam.start({"template_id": await publish(INTERRUPTED, sam), "input": {"witness": witness.url}})
        await until(sam, run["id"], lambda found: witness["slow"].calls and found["approvals"])
        for _ in range(8):
            assert (await sam.post(path_of(run["id"], "pause")))["status"] == "paused"
            assert (await sam.post(path_of(run["id"], "resume")))["status"] == "running"
        assert (await sam.post(path_of(run["id"], "cancel")))["status"] == "cancelled"


IN_FLIGHT = """
name: e2e-in-flight
variables: {witness: {type: string}}
steps:
  - {id: held, http: {url: "${{ vars.witness }}/held"}, timeout: {total: 2s}, retry: {max_attempts: 1}}
"""


async def test_the_total_clock_of_a_step_in_flight_stands_still_in_a_pause(sam: Rest, start, witness):
    witness["held"].hold()
    run = await start(IN_FLIGHT, witness=witness.url)
    await until(sam, run["id"], lambda found: witness["held"].calls)
    paused = await sam.post(path_of(run["id"], "pause"))
    # Longer than the clock, and a sweep on top.
    await asyncio.sleep(moment(event_of(paused, "run.paused")["at"]) + PAUSE_SECONDS - time.time())
    await sam.post(path_of(run["id"], "resume"))
    assert statuses(await sam.get(path_of(run["id"])))["held"] == "running"
    witness["held"].release()
    done = await until(sam, run["id"], lambda found: found["status"] in ("completed", "failed"))
    assert (done["status"], len(witness["held"].calls)) == ("completed", 1), done.get("error")
