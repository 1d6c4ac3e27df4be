"""An executor in this process against a real NATS server and a fake scheduler."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import executor_handlers as handlers
import pytest
from executor_fakes import FakeScheduler, Nats, lease, ref
from wfe_bus.connection import MESSAGE_BYTES
from wfe_bus.messages import REPORT_BYTES, Lease, LeaseRef, Report
from wfe_executor import pulse, reports
from wfe_executor.app import Executor


def output(outcome: Any) -> Any:
    assert outcome.failure is None, outcome.failure
    return json.loads(outcome.output)


async def test_it_claims_runs_and_reports(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start(executor_queues="default,gpu")
    claim = await scheduler.until(lambda: scheduler.claims and scheduler.claims[0])
    assert (claim.executor, claim.queues, claim.room) == (executor.id, ("default", "gpu"), 8)
    step = lease("echo", {"a": [1, None]})
    await scheduler.hand(executor.id, step)
    outcome = await scheduler.outcome(step)
    assert (outcome.no, outcome.fence, output(outcome)) == (1, 1, {"a": [1, None]})
    assert abs(outcome.started_at - time.time()) < 5


async def test_claims_rise_and_heartbeats_tell_what_is_held(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("wait", "held")
    await scheduler.hand(executor.id, step)
    beat = await scheduler.until(lambda: [b for b in scheduler.beats if b.held])
    assert beat[0].held == (ref(step),)
    assert {"echo", "wait"} <= set(beat[0].handlers)
    assert not beat[0].stopping
    await scheduler.until(lambda: len(scheduler.claims) > 4)
    generations = [claim.generation for claim in scheduler.claims]
    assert generations == sorted(set(generations))
    assert scheduler.claims[-1].room == 7


async def test_the_answer_carries_the_next_steps(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    chain = [lease("echo", number) for number in range(20)]
    left = list(chain[1:])
    scheduler.next = lambda report: (left.pop(0),) if left else ()
    await scheduler.hand(executor.id, chain[0])
    for number, step in enumerate(chain):
        assert output(await scheduler.outcome(step)) == number
    assert len(list(executor.slots)) == 0 or await scheduler.until(lambda: not list(executor.slots))


async def test_reports_travel_in_batches_while_others_are_under_way(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start(executor_slots=200, heartbeat_seconds=5)
    await scheduler.until(lambda: scheduler.claims)
    scheduler.gate = asyncio.Event()
    steps = [lease("echo", 1) for _ in range(20)]
    for step in steps:
        await scheduler.hand(executor.id, step)
        await scheduler.client.flush()
    await scheduler.until(lambda: len(scheduler.reports) >= 1)
    # The fake answers one report at a time, so the others are under way or wait.
    await scheduler.until(lambda: len(executor.reporter._sending) == reports.IN_FLIGHT)
    await scheduler.until(lambda: sum(map(len, executor.reporter._waiting.values())) > 0)
    scheduler.gate.set()
    await scheduler.until(lambda: len(scheduler.outcomes) == 20)
    await scheduler.until(lambda: not list(executor.slots))
    assert max(len(report.outcomes) for report in scheduler.reports) > 1
    assert len(scheduler.reports) < 20


async def test_big_batches_are_split_by_bytes(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    steps = tuple(lease("give", "limit") for _ in range(8))
    await scheduler.hand(executor.id, *steps)
    for step in steps:
        assert len((await scheduler.outcome(step)).output) == REPORT_BYTES
    sizes = [sum(len(outcome.output) for outcome in report.outcomes) for report in scheduler.reports]
    assert max(sizes) < MESSAGE_BYTES


async def test_room_is_offered_once(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start(executor_slots=4, heartbeat_seconds=5)
    claim = await scheduler.until(lambda: scheduler.claims and scheduler.claims[0])
    assert claim.room == 4
    steps = [lease("echo", n) for n in range(6)]
    await scheduler.hand(executor.id, *steps)
    for step in steps:
        await scheduler.outcome(step)
    await scheduler.until(lambda: not list(executor.slots))
    # 4 were claimed and 6 came: all of the room is free again, and what was offered never goes beyond it.
    assert sum(report.room for report in scheduler.reports) == 4


async def test_more_leases_than_room_wait_and_beyond_that_are_given_back(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start(executor_slots=2)
    steps = [lease("wait", "crowd") for _ in range(5)]
    await scheduler.hand(executor.id, *steps)
    outcome = await scheduler.outcome(steps[4])
    assert (outcome.released, outcome.output, outcome.failure) == (True, None, None)
    beat = await scheduler.until(lambda: [b for b in scheduler.beats if len(b.held) == 4])
    assert set(beat[0].held) == {ref(step) for step in steps[:4]}
    assert handlers.seen["crowd"] == ["started", "started"]
    await scheduler.stop_work(executor.id, *steps[:2])
    await scheduler.until(lambda: handlers.seen["crowd"].count("started") == 4)


async def test_the_same_lease_twice_runs_once_and_a_newer_one_replaces_it(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("wait", "twice")
    await scheduler.hand(executor.id, step, step)
    await scheduler.until(lambda: "twice" in handlers.seen)
    await scheduler.hand(executor.id, step, other := lease("echo", 1))
    await scheduler.outcome(other)
    assert handlers.seen["twice"] == ["started"]
    newer = lease("echo", "newer", run=step.run, fence=2)
    await scheduler.hand(executor.id, newer)
    outcome = await scheduler.outcome(step)
    assert (outcome.fence, output(outcome)) == (2, "newer")
    await scheduler.until(lambda: "cancelled" in handlers.seen["twice"])
    assert handlers.seen["twice"].count("started") == 1


async def test_a_lease_that_comes_again_when_it_is_over_is_not_run_again(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("wait", "over")
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: "over" in handlers.seen)
    await scheduler.stop_work(executor.id, step)
    await scheduler.until(lambda: not list(executor.slots))
    done = lease("echo", 1)
    await scheduler.hand(executor.id, done)
    await scheduler.outcome(done)
    await scheduler.until(lambda: not list(executor.slots))
    # The bus delivers both messages once more, late.
    await scheduler.hand(executor.id, step, done, other := lease("echo", 2))
    await scheduler.outcome(other)
    await scheduler.until(lambda: not list(executor.slots))
    assert handlers.seen["over"].count("started") == 1
    assert [len(scheduler.outcomes.get(one.run, ())) for one in (step, done, other)] == [0, 1, 1]
    again = lease("echo", 3, run=step.run, fence=step.fence + 1)  # the same step, leased anew
    await scheduler.hand(executor.id, again)
    assert output(await scheduler.outcome(again)) == 3


async def test_stale_answers_change_nothing_here(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("echo", 1)
    scheduler.stale.add(step.run)
    await scheduler.hand(executor.id, step)
    await scheduler.outcome(step)
    await scheduler.until(lambda: not list(executor.slots))
    assert len(scheduler.outcomes[step.run]) == 1


async def test_stop_cancels_async_work_within_a_second(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start(heartbeat_seconds=5)
    step = lease("wait", "stopped")
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: "stopped" in handlers.seen)
    claims = len(scheduler.claims)
    began = time.monotonic()
    await scheduler.stop_work(executor.id, step)
    await scheduler.until(lambda: "cancelled" in handlers.seen["stopped"])
    await scheduler.until(lambda: len(scheduler.claims) > claims)
    assert time.monotonic() - began < 0.5
    assert scheduler.claims[-1].room == 8
    assert step.run not in scheduler.outcomes


async def test_a_stop_of_an_older_fence_does_not_touch_the_newer(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("sleep", {"seconds": 0.2}, fence=5)
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: list(executor.slots))
    await scheduler.stop_work(executor.id, lease(run=step.run, fence=4))
    assert output(await scheduler.outcome(step)) == {"seconds": 0.2}


async def test_leases_lost_by_heartbeat_are_stopped_and_not_reported(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("wait", "lost")
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: "lost" in handlers.seen)
    scheduler.lost = (ref(step),)
    await scheduler.until(lambda: "cancelled" in handlers.seen["lost"])
    await scheduler.until(lambda: not list(executor.slots))
    assert step.run not in scheduler.outcomes


async def test_a_handler_that_swallows_cancellation_is_left_behind(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    executor.slots.abandon_seconds = 0.2
    step = lease("stubborn", "let go", attempt_timeout=0.1)
    await scheduler.hand(executor.id, step)
    outcome = await scheduler.outcome(step)
    assert outcome.failure.code == "ATTEMPT_TIMEOUT"
    assert executor.slots.running == 0
    handlers.note("let go", True)
    await scheduler.until(lambda: not executor.slots._left_behind)
    assert len(scheduler.outcomes[step.run]) == 1


@pytest.mark.parametrize("sync", [False, True])
async def test_clocks(scheduler: FakeScheduler, start: Any, sync: bool, tmp_path: Any) -> None:
    scheduler.clock = 3600.0  # the run store's clock is an hour ahead of this machine's
    executor = await start(sync=sync)
    await scheduler.until(lambda: scheduler.beats)

    def slow(**fields: Any) -> Lease:
        if sync:
            return lease("sync", {"do": "sleep", "seconds": 30, "file": str(tmp_path / "pid")}, **fields)
        return lease("sleep", {"seconds": 30}, **fields)

    cases = {
        "ATTEMPT_TIMEOUT": (slow(attempt_timeout=0.15), True),
        "HEARTBEAT_TIMEOUT": (slow(attempt_timeout=60, heartbeat_timeout=0.15), True),
    }
    for code, (step, retryable) in cases.items():
        await scheduler.hand(executor.id, step)
        outcome = await scheduler.outcome(step)
        assert (outcome.failure.code, outcome.failure.retryable) == (code, retryable)
    over = lease("echo", 1, total_deadline=scheduler.now() - 1)
    await scheduler.hand(executor.id, over)
    assert (await scheduler.outcome(over)).failure.code == "TOTAL_TIMEOUT"
    # The run may be paused meanwhile, of which only the schedulers know: they end it.
    under_way = lease("sleep", {"seconds": 0.5}, attempt_timeout=60, total_deadline=scheduler.now() + 0.3)
    await scheduler.hand(executor.id, under_way)
    assert (await scheduler.outcome(under_way)).failure is None
    future = lease("echo", 1, total_deadline=scheduler.now() + 60, attempt_timeout=60, heartbeat_timeout=60)
    await scheduler.hand(executor.id, future)
    assert output(await scheduler.outcome(future)) == 1


async def test_heartbeats_keep_a_handler_alive_and_carry_progress(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = lease("beats", {"beats": 10, "every": 0.04}, heartbeat_timeout=0.2)
    await scheduler.hand(executor.id, step)
    assert output(await scheduler.outcome(step)) == "done"
    said = [p for beat in scheduler.beats for p in beat.progress if p.run == step.run]
    assert said
    assert json.loads(said[-1].progress)["done"] > 0


async def test_work_stops_when_no_heartbeat_is_answered_for_a_lease(scheduler: FakeScheduler, start: Any) -> None:
    scheduler.lease_seconds = 1.0
    executor = await start()
    step = lease("wait", "lapse")
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: [b for b in scheduler.beats if b.held])
    assert executor.pulse.healthy
    scheduler.answers_beats = False
    began = time.monotonic()
    await scheduler.until(lambda: "cancelled" in handlers.seen["lapse"])
    assert time.monotonic() - began < 1.0
    assert not list(executor.slots)
    await scheduler.until(lambda: not executor.pulse.healthy)
    scheduler.answers_beats = True
    after = lease("echo", 1)
    await scheduler.hand(executor.id, after)
    await scheduler.outcome(after)
    assert step.run not in scheduler.outcomes


async def test_reports_fall_back_to_any_scheduler(bus: Nats, start: Any) -> None:
    gone, other = FakeScheduler("gone"), FakeScheduler("other")
    await gone.start(bus)
    executor = await start()
    await gone.until(lambda: gone.claims)
    step = lease("sleep", {"seconds": 0.3})
    await gone.hand(executor.id, step)
    await gone.until(lambda: list(executor.slots))
    await gone.close()
    await other.start(bus)
    assert output(await other.outcome(step)) == {"seconds": 0.3}
    assert other.reports[-1].room == 0, "room that may have arrived is not offered again"
    await other.until(lambda: not list(executor.slots))
    await other.until(lambda: other.claims and other.claims[-1].room == 8)
    await other.close()


async def test_an_unanswered_report_is_held_and_sent_again(
    scheduler: FakeScheduler, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "ASK_SECONDS", 0.1)
    scheduler.answers_reports = False
    executor = await start()
    step, lost = lease("echo", 1), lease("echo", 2)
    await scheduler.hand(executor.id, step, lost)
    await scheduler.until(lambda: len(scheduler.outcomes.get(step.run, ())) > 2)
    scheduler.lost = (ref(lost),)
    await scheduler.until(lambda: scheduler.beats[-1].held == (ref(step),))
    scheduler.answers_reports = True
    await scheduler.until(lambda: not list(executor.slots))
    count = len(scheduler.outcomes[step.run])
    await scheduler.until(lambda: len(scheduler.beats) > 5)
    assert len(scheduler.outcomes[step.run]) == count
    assert sum(report.room for report in scheduler.reports) <= 2


async def test_losing_nats_costs_time_only(bus: Nats, start: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = Nats(tmp_path_factory.mktemp("own"))
    server.start()
    scheduler = FakeScheduler()
    await scheduler.start(server)
    executor = await start(nats_url=server.url)
    await scheduler.until(lambda: scheduler.claims)
    step = lease("sleep", {"seconds": 0.2})
    await scheduler.hand(executor.id, step)
    await scheduler.until(lambda: list(executor.slots))
    server.stop()
    await scheduler.until(lambda: executor.slots.running == 0)
    claims = len(scheduler.claims)
    server.start()
    assert output(await scheduler.outcome(step, 20)) == {"seconds": 0.2}
    await scheduler.until(lambda: len(scheduler.claims) > claims)
    after = lease("echo", "after")
    await scheduler.hand(executor.id, after)
    assert output(await scheduler.outcome(after)) == "after"
    await executor.close()
    await scheduler.close()
    server.stop()


async def test_a_connection_that_is_closed_for_good_is_opened_again(scheduler: FakeScheduler, start: Any) -> None:
    executor: Executor = await start()
    await scheduler.until(lambda: scheduler.claims)
    await executor.link._client.close()  # as after an error that nats-py does not recover from
    beats = len(scheduler.beats)
    await scheduler.until(lambda: len(scheduler.beats) > beats + 1)
    step = lease("echo", 1)
    await scheduler.hand(executor.id, step)
    assert output(await scheduler.outcome(step)) == 1


async def test_large_requests_are_fetched_in_chunks(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    text = "ü" * 5000
    step = lease(request=None)
    scheduler.inputs[step.run] = json.dumps({"handler": "echo", "input": text}, ensure_ascii=False).encode()
    gone = lease(request=None)
    scheduler.stale.add(gone.run)
    await scheduler.hand(executor.id, step, gone)
    assert output(await scheduler.outcome(step)) == text
    await scheduler.until(lambda: not list(executor.slots))
    assert gone.run not in scheduler.outcomes


async def test_garbage_on_the_bus_is_survived(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    for subject in (f"wfe.x.{executor.id}.leases", f"wfe.x.{executor.id}.stop"):
        await scheduler.client.publish(subject, b"\xff\x00garbage")
    steps = [lease(request=b"{"), lease(request=b'{"handler": 3}'), lease(request=b"[]", kind="http")]
    await scheduler.hand(executor.id, *steps)
    for step in steps:
        outcome = await scheduler.outcome(step)
        assert (outcome.failure.code, outcome.failure.retryable) == ("REQUEST_INVALID", False)


async def test_refs_of_strangers_are_ignored(scheduler: FakeScheduler, start: Any) -> None:
    scheduler.lost = (LeaseRef(run=b"x" * 16, no=3, fence=1),)
    executor = await start()
    step = lease("echo", 1)
    await scheduler.until(lambda: len(scheduler.beats) > 2)
    await scheduler.hand(executor.id, step)
    assert output(await scheduler.outcome(step)) == 1


def test_the_report_message_has_room_for_its_envelope() -> None:
    assert pulse.PROGRESS_BYTES < 900_000
    assert Report(executor="x", queues=(), outcomes=()).room == 0
