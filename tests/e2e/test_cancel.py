"""Cancel and terminate reach what runs in an executor within a second."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from e2e_runs import event_of, moment, path_of, statuses, types, until
from e2e_store import Store
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for

#: One step of each kind of work, all of them busy for longer than anybody waits.
BUSY = """
name: e2e-busy
variables:
  witness: {type: string}
  async_file: {type: string}
  sync_file: {type: string}
steps:
  - id: async
    needs: []
    queue: slow-heart
    call: {handler: trace, input: {file: "${{ vars.async_file }}", seconds: 60}}
  - id: sync
    needs: []
    queue: slow-heart
    call: {handler: sync_trace, input: {file: "${{ vars.sync_file }}", seconds: 60}}
  - {id: http, needs: [], queue: slow-heart, http: {url: "${{ vars.witness }}/busy"}}
  - {id: gate, needs: [], approval: {title: "Go on?", approvers: {groups: [editors]}}}
  - {id: later, needs: [async], call: {handler: trace, input: {file: "${{ vars.async_file }}", seconds: 0}}}
"""
REACHED_SECONDS = 1.0
#: So long that the answer to a heartbeat, which names lost leases too, does not reach them instead.
HEARTBEAT_SECONDS = 2.0


@pytest.fixture(scope="module")
async def slow_heart(stack, tmp_path_factory):
    """An executor of its own, with a slow heartbeat, for the queue of that name."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WFE_")} | {
        "WFE_NATS_URL": stack.nats_url,
        "WFE_NATS_USER": "executor",
        "WFE_NATS_PASSWORD": stack.nats_password("executor"),
        "WFE_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        "WFE_EXECUTOR_QUEUES": "slow-heart",
        "WFE_HANDLERS": "e2e_handlers",
        "WFE_EGRESS_ALLOW": "127.0.0.1",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    program = Path(sys.executable).with_name("wfe-executor")
    with (tmp_path_factory.mktemp("slow-heart") / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, env=environment, stdout=log, stderr=log)
        yield process
        process.terminate()
        await process.wait()


@pytest.mark.parametrize(("action", "reason"), [("cancel", "cancelled"), ("terminate", "terminated")])
async def test_it_reaches_running_steps_within_a_second(
    sam: Rest, store: Store, slow_heart, start, witness, tmp_path, action, reason
):
    witness["busy"].hold()
    files = {"async_file": tmp_path / "async", "sync_file": tmp_path / "sync"}
    run = await start(BUSY, witness=witness.url, **{name: str(file) for name, file in files.items()})
    await wait_for(lambda: all(file.exists() for file in files.values()) and witness["busy"].calls)
    process = psutil.Process(notes(files["sync_file"])[0]["pid"])

    # Right after a heartbeat: the next one is far.
    beat = (await until(sam, run["id"], lambda found: found.get("heartbeat_at")))["heartbeat_at"]
    await until(sam, run["id"], lambda found: found.get("heartbeat_at") != beat)

    cancelled = await sam.post(path_of(run["id"], action), {"reason": "changed my mind"})
    answered = time.time()
    await wait_for(lambda: not process.is_running(), what="the end of the sync handler's process")
    ended = time.time()
    await wait_for(lambda: len(notes(files["async_file"])) > 1, what="the async handler's cancellation")
    await wait_for(lambda: witness["busy"].calls[0].dropped_at, what="the end of the HTTP call")
    seen = notes(files["async_file"])
    assert [note["what"] for note in seen] == ["started", "cancelled"]
    reached = {
        "async handler": seen[1]["at"] - answered,
        "sync handler's process": ended - answered,
        "HTTP call": witness["busy"].calls[0].dropped_at - answered,
    }
    print(f"\n{action} reached, after its answer:", *(f"{what} {1000 * s:.0f} ms" for what, s in reached.items()))
    assert max(reached.values()) < REACHED_SECONDS

    assert (cancelled["status"], cancelled["reason"]) == ("cancelled", reason)
    assert cancelled["notice"].startswith("3 steps in flight were told to stop; effects outside are not undone: async")
    assert cancelled["notice"].endswith("; 1 open approval was withdrawn")
    assert statuses(cancelled) == dict.fromkeys(("async", "sync", "http", "gate"), "cancelled")
    assert cancelled["approvals"][0]["status"] == "withdrawn"
    assert event_of(cancelled, "run.cancelled")["data"].get("terminated", False) is (action == "terminate")
    assert event_of(cancelled, "run.cancelled")["reason"] == "changed my mind"
    stored = await store.everything(run["id"])
    assert stored["dispatch"] == stored["timers"] == []
    assert [note["what"] for note in notes(files["sync_file"])] == ["started"]


def notes(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


async def test_what_runs_beside_a_step_that_fails_the_run_is_stopped(sam: Rest, start, witness, tmp_path):
    file = tmp_path / "async"
    witness["fails"].hold()
    witness["fails"].answer(400)
    run = await start(
        """
name: e2e-fails-beside
variables: {witness: {type: string}, file: {type: string}}
steps:
  - {id: busy, needs: [], call: {handler: trace, input: {file: "${{ vars.file }}", seconds: 60}}}
  - {id: fails, needs: [], http: {url: "${{ vars.witness }}/fails"}}
""",
        witness=witness.url,
        file=str(file),
    )
    await wait_for(file.exists)
    witness["fails"].release()
    failed = await until(sam, run["id"], "failed")
    await wait_for(lambda: [note["what"] for note in notes(file)] == ["started", "cancelled"])
    assert (failed["reason"], failed["error"]["code"], failed["error"]["step"]) == (
        "http_status",
        "HTTP_STATUS",
        "fails",
    )
    assert failed["error"]["details"]["status"] == 400
    assert statuses(failed) == {"busy": "cancelled", "fails": "failed"}
    assert types(failed)[-3:] == ["step.failed", "step.cancelled", "run.failed"]
    assert notes(file)[1]["at"] - moment(failed["ended_at"]) < REACHED_SECONDS
