"""Signals and mending by hand, against a server that answers as it is told."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def mended(server):
    """A run whose step `greet` was visited twice."""
    steps = [
        {"no": 1, "path": "greet", "kind": "call", "status": "failed", "attempts": 3, "max_attempts": 3},
        {"no": 2, "path": "say/it", "kind": "call", "status": "completed", "attempts": 1, "max_attempts": 3},
        {"no": 3, "path": "greet", "kind": "call", "status": "failed", "attempts": 3, "max_attempts": 3},
    ]
    run = server.run(status="failed", steps=steps)
    path = f"/api/v1/workflows/{server.RUN}"
    server.on("GET", path, run)
    for verb in (
        "signals/go",
        "rerun",
        *(f"steps/{no}/{verb}" for no in (2, 3) for verb in ("retry", "complete", "skip")),
    ):
        server.on("POST", f"{path}/{verb}", run)
    return server


def posted(server):
    return next(each for each in server.asked if each.method == "POST")


@pytest.mark.parametrize(
    ("words", "path", "body", "keyed"),
    [
        (["signal", "go"], "signals/go", {}, True),
        (
            ["signal", "go", "--payload", '{"n": 1}', "-r", "why"],
            "signals/go",
            {"payload": {"n": 1}, "reason": "why"},
            True,
        ),
        (["signal", "go", "--payload", "null"], "signals/go", {"payload": None}, True),
        (["rerun", "--from", "greet", "-r", "why"], "rerun", {"from_step": "greet", "reason": "why"}, True),
        (
            ["rerun", "--from", "greet", "-r", "why", "-l", "team=web"],
            "rerun",
            {"from_step": "greet", "reason": "why", "labels": {"team": "web"}},
            True,
        ),
        (
            ["retry-step", "greet", "-i", '{"a": 1}', "-r", "why"],
            "steps/3/retry",
            {"input": {"a": 1}, "reason": "why"},
            False,
        ),
        (["complete-step", "say/it", "-r", "why"], "steps/2/complete", {"output": None, "reason": "why"}, False),
        (["complete-step", "2", "-o", "[1]", "-r", "why"], "steps/2/complete", {"output": [1], "reason": "why"}, False),
        (["skip-step", "greet", "-r", "why"], "steps/3/skip", {"reason": "why"}, False),
    ],
)
def test_each_asks_for_what_it_says(mended, wfe, words, path, body, keyed):
    result = wfe("runs", words[0], mended.RUN, *words[1:])
    assert result.exit_code == 0, result.output
    asked = posted(mended)
    assert (asked.path, asked.body) == (f"/api/v1/workflows/{mended.RUN}/{path}", body)
    assert ("idempotency-key" in asked.headers) is keyed
    person = "root" if "-step" in words[0] else "sam"
    assert asked.headers["authorization"] == f"Bearer wfe_{person}"
    assert mended.RUN in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["skip-step", "nowhere", "-r", "why"], "the run has no step 'nowhere'; it has: greet, say/it"),
        (["complete-step", "greet", "-o", "{", "-r", "why"], "--output is not JSON"),
        (["retry-step", "greet", "-i", "{", "-r", "why"], "--input is not JSON"),
        (["signal", "go", "--payload", "yes"], "--payload is not JSON"),
        (["rerun", "--from", "greet", "-r", "why", "-l", "x"], "--label 'x' is not name=value"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(mended, wfe, words, said):
    result = wfe("runs", words[0], mended.RUN, *words[1:])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
    assert not any(each.method == "POST" for each in mended.asked)


@pytest.mark.parametrize("words", [["rerun", "--from", "greet"], ["skip-step", "greet"], ["complete-step", "greet"]])
def test_mending_needs_a_reason(mended, wfe, words):
    result = wfe("runs", words[0], mended.RUN, *words[1:])
    assert result.exit_code == 2
    assert "--reason" in result.stderr


def test_many_runs_at_once(server, wfe):
    server.on("GET", "/api/v1/templates", {"templates": [{"id": server.TEMPLATE, "name": "hello"}]})
    results = [
        {"id": server.RUN, "ok": True, "error": "", "message": ""},
        {"id": server.GATE, "ok": False, "error": "NOT_FAILED", "message": "it is running"},
    ]
    server.on("POST", "/api/v1/workflows/bulk", {"results": results, "matched": 7})
    words = ["runs", "bulk", "retry", "-r", "why", "--status", "failed", "--template", "hello", "-l", "team=web"]
    result = wfe(*words, "--created-after", "2026-01-01T00:00:00Z", "--limit", "2")
    assert result.exit_code == 1
    assert posted(server).body == {
        "action": "retry", "reason": "why", "status": "failed", "template_id": server.TEMPLATE, "label": ["team=web"],
        "created_after": "2026-01-01T00:00:00Z", "limit": 2,
    }  # fmt: skip
    assert "NOT_FAILED" in result.output
    assert "the newest 2 of 7 that match" in result.output
    assert "refused for 1 of 2 runs" in result.stderr
    assert json.loads(wfe(*words, "--json").stdout)["matched"] == 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bulk", "explode", "-r", "why", "--status", "failed"], "the action is one of pause"),
        (["bulk", "cancel", "-r", "why"], "name at least one of --status"),
        (["bulk", "cancel", "-r", "why", "-l", "x"], "--label 'x' is not name=value"),
    ],
)
def test_a_bulk_that_would_be_wrong_asks_nothing(server, wfe, words, said):
    result = wfe("runs", *words)
    assert (result.exit_code, said in result.stderr) == (2, True), result.output
    assert server.asked == []
