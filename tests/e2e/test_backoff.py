"""Retries: how long a step waits between attempts, which failures it retries, and Retry-After."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from e2e_runs import moment, statuses, step_of, until
from wfe_stack.rest import Rest

#: Policies by step; all of their calls fail but the last.
POLICIES = {
    "fixed": "{max_attempts: 4, backoff: fixed, initial: 60ms, jitter: none}",
    "linear": "{max_attempts: 4, backoff: linear, initial: 60ms, jitter: none}",
    "exponential": "{max_attempts: 4, backoff: exponential, initial: 60ms, jitter: none}",
    "limited": "{max_attempts: 4, backoff: exponential, initial: 60ms, max: 100ms, jitter: none}",
    "full": "{max_attempts: 6, backoff: fixed, initial: 60ms, jitter: full}",
    "equal": "{max_attempts: 6, backoff: fixed, initial: 60ms, jitter: equal}",
    "seconds": "{max_attempts: 2, backoff: fixed, initial: 60ms, jitter: full}",
    "date": "{max_attempts: 2, backoff: fixed, initial: 60ms, jitter: full}",
    "shorter": "{max_attempts: 2, backoff: fixed, initial: 300ms, jitter: none}",
    "named": "{max_attempts: 2, backoff: fixed, initial: 60ms, jitter: none, on: [HTTP_STATUS]}",
    "others": "{max_attempts: 2, backoff: fixed, initial: 60ms, jitter: none, never: [HTTP_ERROR]}",
}
RETRIED = "name: e2e-backoff\nvariables: {witness: {type: string}}\nsteps:\n" + "".join(
    f'  - {{id: {name}, needs: [], http: {{url: "${{{{ vars.witness }}}}/{name}"}}, retry: {policy}}}\n'
    for name, policy in POLICIES.items()
)
#: Seconds between attempts, where they are fixed.
SPANS = {
    "fixed": [0.06, 0.06, 0.06],
    "linear": [0.06, 0.12, 0.18],
    "exponential": [0.06, 0.12, 0.24],
    "limited": [0.06, 0.1, 0.1],
    "seconds": [1.0],
    "shorter": [0.3],
    "named": [0.06],
    "others": [0.06],
}
#: Policies under which a first failure is the last, with the answer that makes it.
FINAL = {
    "another code": ("{max_attempts: 5, initial: 60ms, on: [HTTP_ERROR]}", 503),
    "never this code": ("{max_attempts: 5, initial: 60ms, never: [HTTP_STATUS]}", 503),
    "no second attempt": ("{max_attempts: 1}", 503),
    "no use in repeating": ("{max_attempts: 5, initial: 60ms}", 404),
}


async def test_backoff_of_every_kind(sam: Rest, start, witness):
    attempts = {"full": 6, "equal": 6, "seconds": 2, "date": 2, "shorter": 2, "named": 2, "others": 2}
    for name in POLICIES:
        witness[name].answer(503, times=attempts.get(name, 4) - 1)
    witness["seconds"].answers = [(429, {"retry-after": "1"})]
    witness["date"].answers = [(503, {"retry-after": lambda: formatdate(int(time.time()) + 2, usegmt=True)})]
    witness["shorter"].answers = [(429, {"retry-after": "0"})]
    run = await start(RETRIED, witness=witness.url)
    done = await sam.wait_ended(run["id"])
    assert statuses(done) == dict.fromkeys(POLICIES, "completed")

    spans: dict[str, list[float]] = {name: [] for name in POLICIES}
    for event in done["events"]:
        if event["type"] == "step.retrying":
            name, due = event["data"]["step"], event["data"]["due"]
            spans[name].append(due - moment(event["at"]))
            # Not before it is due. The witness has this machine's clock, as the store does.
            assert witness[name].calls[len(spans[name])].at >= due - 0.002
    for name, expected in SPANS.items():
        assert spans[name] == pytest.approx(expected, abs=0.001), name
    assert 0 < spans["date"][0] - 1 <= 1.001
    assert all(-0.001 <= span <= 0.061 for span in spans["full"])
    assert all(0.029 <= span <= 0.061 for span in spans["equal"])
    for name in ("full", "equal"):
        assert len({round(span, 4) for span in spans[name]}) > 1, name
    for name in POLICIES:
        count = attempts.get(name, 4)
        assert (step_of(done, name)["attempts"], len(witness[name].calls)) == (count, count), name
        assert len(set(witness[name].keys)) == 1, name


@pytest.mark.parametrize("case", FINAL)
async def test_failures_that_are_not_retried(sam: Rest, start, witness, case):
    policy, status = FINAL[case]
    witness["final"].answer(status, times=9)
    run = await start(
        "name: e2e-final\nvariables: {witness: {type: string}}\nsteps:\n"
        f'  - {{id: final, http: {{url: "${{{{ vars.witness }}}}/final"}}, retry: {policy}}}\n',
        witness=witness.url,
    )
    failed = await until(sam, run["id"], "failed")
    assert (failed["error"]["code"], failed["error"]["details"]["status"]) == ("HTTP_STATUS", status)
    assert (step_of(failed, "final")["attempts"], len(witness["final"].calls)) == (1, 1)


async def test_a_step_fails_when_its_attempts_are_used_up(sam: Rest, start, witness):
    witness["final"].answer(503, times=9)
    run = await start(
        "name: e2e-used-up\nvariables: {witness: {type: string}}\nsteps:\n"
        '  - {id: final, http: {url: "${{ vars.witness }}/final"},'
        " retry: {max_attempts: 3, initial: 20ms, jitter: none}}\n",
        witness=witness.url,
    )
    failed = await until(sam, run["id"], "failed")
    assert (step_of(failed, "final")["attempts"], len(witness["final"].calls)) == (3, 3)
    assert step_of(failed, "final")["error"]["code"] == "HTTP_STATUS"
