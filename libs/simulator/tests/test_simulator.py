"""The world around a simulated run: attempts, clocks, people, signals, other runs, and cases of them."""

from __future__ import annotations

import time

import pytest
import wfe_language
from wfe_engine.errors import InvalidInput
from wfe_simulator import (
    CasesFault,
    Decide,
    Endless,
    Fails,
    Gives,
    MockMissing,
    Mocks,
    Silence,
    Tells,
    read_cases,
    run_case,
    simulate,
)

CALL = "- {id: a, call: {handler: h, input: {n: 1}}, retry: {max_attempts: 3, initial: 10s, jitter: none}%s}"
CHEAP = """\
name: t
steps:
  - {id: a, call: {handler: h}, retry: {max_attempts: 2, initial: 0s}}
output: ${{ steps.a.output }}
"""


def case_of(text: str):
    (case,) = read_cases(text)
    return run_case(wfe_language.compile(CHEAP), case)


def test_attempts_follow_one_another_with_backoff(run):
    result = run(CALL % "", {"a": [Fails("X"), Fails("X", takes=5), Gives(1, takes=1)]})
    assert (result.step("a").output, result.step("a").attempts, result.took) == (1, 3, 10 + 5 + 20 + 1)
    failed = run(CALL % "", {"a": Fails("X")})
    assert (failed.error["code"], failed.step("a").attempts) == ("X", 3)
    later = run(CALL % "", {"a": [Fails("X", retry_after=60), Gives(1)]})
    assert later.took == 60


def test_clocks_of_a_step(run):
    slow = run(CALL % ", timeout: 3s", {"a": [Gives(1, takes=9), Gives(2, takes=2)]})
    assert (slow.step("a").output, slow.took) == (2, 3 + 10 + 2)
    over = run(CALL % ", timeout: {total: 12s}", {"a": Fails("X", takes=1)})
    assert (over.error["code"], over.took) == ("TOTAL_TIMEOUT", 12)
    whole = run(CALL % "", {"a": Gives(takes=100)}, top="timeout: 1m\n")
    assert (whole.error["code"], whole.took) == ("RUN_TIMEOUT", 60)


def test_people_decide_or_nobody_does(run):
    gate = "- {id: g, approval: {title: t, approvers: {users: [u]}%s}}"
    expiring = gate % ", expires: {after: 1h, then: approve}"
    approved = run(gate % "", {"g": Decide("approve", comment="fine", by="ada", after=5)})
    said = approved.step("g").output
    assert (said["decision"], said["comment"], said["decided_by"]) == ("approve", "fine", "ada")
    assert approved.took == 5
    assert run(expiring, {"g": Decide("reject", after=3600)}).status == "completed"
    assert run(expiring, {"g": Decide("reject", after=3599)}).reason == "approval_rejected"
    with pytest.raises(TypeError, match="does not expire"):
        run(gate % "", {"g": Decide("expire")})
    branching = gate % ", expires: {after: 1h, then: 'branch:late'}"
    assert run(branching, {"g": Decide("expire")}).step("g").output["branch"] == "late"


def test_a_gate_sends_a_step_back(run):
    steps = """
- {id: draft, call: {handler: h, input: "${{ revision.reason }}"}}
- {id: g, approval: {title: t, approvers: {users: [u]}, revise: {step: draft}}}
- {id: done, set: {text: "${{ steps.draft.output }}"}}
"""
    decisions = [Decide("revise", comment="shorter"), Decide("approve")]
    result = run(steps, {"draft": Gives(echo=True), "g": decisions})
    assert (result.status, result.step("done").output) == ("completed", {"text": "shorter"})
    with pytest.raises(TypeError, match="sends nothing back"):
        run("- {id: g, approval: {title: t, approvers: {users: [u]}}}", {"g": Decide("revise")})


def test_signals_and_callbacks(run):
    steps = """
- id: each
  foreach: {items: [1, 2], steps: [{id: w, wait_for: {callback: scan, timeout: {after: 1h}}}]}
"""
    result = run(steps, {"each/w": lambda request: Tells(payload=request.iteration, after=60)})
    assert [one["payload"] for one in result.step("each").output] == ["0", "1"]
    assert run(steps, {"each/w": Silence()}).error["code"] == "WAIT_TIMEOUT"
    failed = run(steps, {"each/w": Tells(payload={"code": "JAM", "message": "m"}, failed=True)})
    assert failed.error["code"] == "JAM"
    first = run("- {id: w, wait_for: {signals: [a, b]}}", {"w": Tells("b", 7)})
    assert first.step("w").output == {"name": "b", "payload": 7}


def test_runs_of_other_templates(run):
    steps = '- {id: c, workflow: {template: other, input: {n: "${{ vars.n }}"}}}'
    top = "variables: {n: {type: integer, default: 4}}\n"
    assert run(steps, {"c": Gives(echo=True, takes=8)}, top=top).step("c").output == {"n": 4}
    assert run(steps, {"c": Fails("CHILD_FAILED")}, top=top).error["code"] == "CHILD_FAILED"


def test_what_is_missing_or_does_not_fit_is_said(run):
    with pytest.raises(MockMissing, match=r"the call step each/w\[0\] has no mock; add it: each/w: \{output: ...\}"):
        run("- {id: each, foreach: {items: [1], steps: [{id: w, call: {handler: h}}]}}")
    with pytest.raises(TypeError, match="its mock is an output or an error"):
        run("- {id: w, call: {handler: h}}", {"w": Decide("approve")})
    with pytest.raises(TypeError, match="it is decided"):
        run("- {id: g, approval: {title: t, approvers: {users: [u]}}}", {"g": Gives(1)})
    with pytest.raises(Endless, match=r"waits for w \(wait_for\)"):
        run("- {id: w, wait_for: {signal: s}}", {"w": Silence()})
    with pytest.raises(InvalidInput):
        simulate(wfe_language.compile(CHEAP), {"nobody": 1})


def test_sensitive_values_are_placeholders(run):
    steps = '- {id: a, call: {handler: h, input: {t: "${{ vars.token }}"}}}'
    seen = []
    run(steps, {"a": lambda request: seen.append(request.input)}, given={"token": "secret"},
        top="variables: {token: {type: string, sensitive: true}}\n")  # fmt: skip
    assert "secret" not in str(seen)


def test_the_same_arguments_give_the_same_result():
    plan = wfe_language.compile(CHEAP.replace("initial: 0s", "initial: 9s, jitter: full"))
    mocks = lambda: Mocks({"a": [Fails("X"), Gives(1)]})  # noqa: E731
    first, second = simulate(plan, {}, mocks()), simulate(plan, {}, mocks())
    assert first.took == second.took > 0
    assert first.events == second.events


def test_it_takes_milliseconds():
    plan, mocks = wfe_language.compile(CHEAP), Mocks(handlers={"h": Gives(1)})
    simulate(plan, {}, mocks)
    began = time.process_time()
    for _ in range(10):
        simulate(plan, {}, mocks)
    assert (time.process_time() - began) / 10 < 0.02


# ---- cases


def test_cases_inherit_and_replace():
    first, second = read_cases(
        "input: {x: 1}\nsteps: {a: approve}\nexpect: {status: completed, output: 3}\n"
        "cases:\n  one: {}\n  two: {input: {y: 2}, steps: {b: [{output: 1}, {error: X}]}, expect: {error: X}}\n"
    )
    assert (first.name, first.input, first.expect) == ("one", {"x": 1}, {"status": "completed", "output": 3})
    assert (second.name, second.input, second.expect) == ("two", {"x": 1, "y": 2}, {"error": "X"})
    assert second.steps == {"a": Decide("approve"), "b": [Gives(1), Fails("X")]}


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("stepz: {}", "1:1", "The key stepz is not known here. Did you mean steps?"),
        ("steps: {a: {outptu: 1}}", "1:13", "Did you mean output?"),
        ("steps: {a: {output: 1, error: X}}", "1:9", "exactly one of"),
        ("steps: {a: []}", "1:12", "There is no outcome."),
        ("steps: {a: {error: not found}}", "1:20", "Codes look like HTTP_503."),
        ("steps: {a: {error: {message: m}}}", "1:13", "The key code is missing."),
        ("steps: {a: {decision: aprove}}", "1:23", "Did you mean approve?"),
        ("steps: {a: {output: 1, takes: 5}}", "1:31", "Say the unit: 5s"),
        ("steps: [a]", "1:8", "Write names and values."),
        ("expect: {status: complete}", "1:18", "Did you mean completed?"),
        ("expect: {steps: {a: {statuss: x}}}", "1:22", "Did you mean status?"),
        ("expect: {takes: soon}", "1:17", "is not a span of time"),
        ("cases: {}", "1:8", "There are no cases."),
        ("input: 3", "1:8", "Write names and values."),
        ("steps: {a: *x}", "1:12", "Aliases"),
    ],
)
def test_faults_of_cases_have_their_place(text, place, reason):
    with pytest.raises(CasesFault) as caught:
        read_cases(text)
    said = [str(fault) for fault in caught.value.faults]
    assert any(each.startswith(f"{place}: ") and reason in each for each in said), said


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("handlers: {h: {output: 3}}\nexpect: {output: 4}", "output is 3; expected 4"),
        ("handlers: {h: {output: 1}}\nexpect: {output: true}", "output is 1; expected true"),
        ("handlers: {h: {error: X}}", "the run failed at a: X: it was mocked to fail; expected completed"),
        ("handlers: {h: {output: 1}}\nexpect: {error: X}", "the run completed; expected failed"),
        ("handlers: {h: {error: X}}\nexpect: {error: Y}", 'error.code is "X"; expected "Y"'),
        (
            "handlers: {h: {output: 1}}\nexpect: {steps: {a: failed}}",
            'steps.a.status is "completed"; expected "failed"',
        ),
        (
            "handlers: {h: {output: 1}}\nexpect: {steps: {b: completed}}",
            'steps.b was not reached; expected "completed"',
        ),
        (
            "handlers: {h: {output: 1}}\nexpect: {steps: {a: pending}}",
            "steps.a is completed; expected it not to be reached",
        ),
        ("handlers: {h: {output: 1}}\nexpect: {steps: {a: {count: 2}}}", "steps.a was entered 1 times; expected 2"),
        ("handlers: {h: {output: 1}}\nexpect: {steps: {a: {attempts: 2}}}", "steps.a.attempts is 1; expected 2"),
        ("handlers: {h: {output: 1}}\nexpect: {emitted: [x]}", 'emitted is []; expected ["x"]'),
        ("handlers: {h: {output: 1, takes: 5s}}\nexpect: {takes: 6s}", "the run takes 5 s; expected 6s"),
        ("handlers: {h: {output: 1}}\nsteps: {z: {output: 1}}", "there is no step z, which is mocked"),
        ("input: {x: 1}", "input.x: There is no such variable; the template declares none."),
        ("{}", "the call step a has no mock; add it: a: {output: ...}"),
        ("steps: {a: approve}", "a is a call step; its mock is an output or an error"),
        ("begin: yesterday\nhandlers: {h: {output: 1}}", "Invalid isoformat string: 'yesterday'"),
    ],
)
def test_what_is_not_as_expected_is_said(text, problem):
    report = case_of(text)
    assert problem in report.problems
    assert not report.passed


def test_what_is_as_expected_passes():
    report = case_of(
        "steps: {a: [{error: X}, {output: {n: 1}}]}\n"
        "expect: {status: completed, output: {n: 1}, takes: 0s, emitted: [], steps: {a: {attempts: 2, input: {}}}}"
    )
    assert report.problems == []
    assert report.passed
