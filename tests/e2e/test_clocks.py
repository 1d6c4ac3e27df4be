"""The four clocks of a step and the one of a run, each with its own code, as docs/api.md names them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from e2e_runs import moment, step_of, types
from wfe_stack.rest import Rest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"

SLEEP = "call: {handler: sleep, input: {seconds: 30}}"
TWICE = "retry: {max_attempts: 2, backoff: fixed, initial: 20ms, jitter: none}"
#: Code: (the step, the span after which it fails, whether another attempt may follow).
CLOCKS = {
    "QUEUE_TIMEOUT": ("call: {handler: echo}, queue: nobody-serves-it, timeout: {queue: 300ms}", 0.3, False),
    "ATTEMPT_TIMEOUT": (f"{SLEEP}, timeout: {{attempt: 300ms}}, {TWICE}", 0.3, True),
    "HEARTBEAT_TIMEOUT": (f"{SLEEP}, timeout: {{attempt: 20s, heartbeat: 300ms}}, {TWICE}", 0.3, True),
    "TOTAL_TIMEOUT": (f"{SLEEP}, timeout: {{attempt: 200ms, total: 600ms}}, {TWICE.replace('2', '9', 1)}", 0.6, False),
}


async def failed(sam: Rest, start, name: str, step: str, head: str = ""):
    run = await start(f"name: {name}\n{head}steps:\n  - {{id: late, {step}}}\n")
    return await sam.wait_ended(run["id"], 20)


async def test_each_clock_fails_its_step_with_its_own_code(sam: Rest, start):
    runs = await asyncio.gather(
        *(failed(sam, start, f"e2e-{code[:4].lower()}-clock", step) for code, (step, _, _) in CLOCKS.items())
    )
    for (code, (_, span, retried)), run in zip(CLOCKS.items(), runs, strict=True):
        late = step_of(run, "late")
        assert (run["status"], run["reason"], run["error"]["code"]) == ("failed", code.lower(), code)
        assert (late["status"], late["error"]["code"]) == ("failed", code)
        took = moment(run["ended_at"]) - moment(run["started_at"])
        # An executor knows the store's clock to some milliseconds, and fewer on a busy machine.
        assert took >= span * (2 if retried else 1) - 0.02
        if retried:
            assert late["attempts"] == types(run).count("step.retrying") + 1 == 2
    # The total clock counts over attempts: two of 200 ms ended before it, the third was under way.
    assert step_of(runs[-1], "late")["attempts"] >= 2


async def test_the_total_clock_runs_in_a_backoff_too(sam: Rest, start):
    step = "call: {handler: flaky}, retry: {initial: 1h, max: 1h, jitter: none}, timeout: {total: 400ms}"
    run = await failed(sam, start, "e2e-total-in-backoff", step)
    assert (run["status"], run["error"]["code"], step_of(run, "late")["attempts"]) == ("failed", "TOTAL_TIMEOUT", 1)


async def test_the_total_clock_ends_an_attempt_that_is_under_way(sam: Rest, start):
    run = await failed(sam, start, "e2e-total-under-way", f"{SLEEP}, timeout: {{total: 400ms}}")
    assert (run["status"], run["error"]["code"]) == ("failed", "TOTAL_TIMEOUT")
    assert moment(run["ended_at"]) - moment(run["started_at"]) < 10, "a sweep ended it; the handler would have gone on"


async def test_heartbeats_keep_a_step_alive(sam: Rest, start):
    work = "call: {handler: work, input: {seconds: 1.2, pieces: 12}}"
    step = f"{work}, timeout: {{heartbeat: 600ms}}, retry: {{max_attempts: 1}}"
    run = await failed(sam, start, "e2e-heartbeats", step)
    assert (run["status"], step_of(run, "late")["attempts"]) == ("completed", 1)


async def test_the_clock_of_the_run(sam: Rest, start):
    run = await failed(sam, start, "e2e-run-clock", "wait: {for: 1h}", "timeout: 400ms\n")
    assert (run["status"], run["reason"], run["error"]["code"]) == ("failed", "run_timeout", "RUN_TIMEOUT")
    assert step_of(run, "late")["status"] == "cancelled"


def test_the_page_names_every_code():
    text = PAGE.read_text()
    assert [code for code in (*CLOCKS, "RUN_TIMEOUT", "LEASES_LOST") if f"`{code}`" not in text] == []
