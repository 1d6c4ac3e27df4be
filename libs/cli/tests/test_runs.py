"""`wfe runs` against a server that answers as it is told."""

from __future__ import annotations

import base64
import json

import pytest

SOURCE = (
    "name: hello\nvariables:\n  name: {type: string}\n  count: {type: integer}\n  deep: {type: object}\nsteps: []\n"
)


@pytest.fixture
def hello(server):
    """The template hello, version 2, and the answer to a start."""
    template = {"id": server.TEMPLATE, "name": "hello", "latest_version": 2}
    server.on("GET", "/api/v1/templates", {"templates": [template]})
    server.on("GET", f"/api/v1/templates/{server.TEMPLATE}/versions/2", {"source": SOURCE})
    server.on("POST", "/api/v1/workflows", server.run(status="pending", steps=[]), 201)
    return server


def started(server):
    return next(each for each in server.asked if each.method == "POST")


def test_a_start_by_name_sends_typed_values_labels_and_a_key(hello, wfe):
    result = wfe("runs", "start", "hello", "-i", "name=42", "-i", "count=42", "-i", 'deep={"a": 1}', "-l", "team=web")
    assert result.exit_code == 0, result.output
    asked = started(hello)
    assert asked.body == {
        "template_id": hello.TEMPLATE,
        "input": {"name": "42", "count": 42, "deep": {"a": 1}},
        "labels": {"team": "web"},
    }
    assert len(asked.headers["idempotency-key"]) == 36
    assert asked.headers["authorization"] == "Bearer wfe_sam"
    assert hello.RUN in result.output
    assert "pending" in result.output


def test_a_start_can_wait_for_the_end(hello, wfe):
    assert wfe("runs", "start", "hello", "--wait", "30").exit_code == 0
    assert started(hello).body["wait_seconds"] == 30


def test_a_start_whose_answer_is_lost_is_repeated_under_the_same_key(hello, wfe):
    hello.answers[("POST", "/api/v1/workflows")].insert(0, (503, hello.refusal("STORE_DOWN", "try again")))
    result = wfe("runs", "start", "hello", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["id"] == hello.RUN
    keys = [each.headers["idempotency-key"] for each in hello.asked if each.method == "POST"]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_input_comes_from_a_file_from_json_and_from_pairs_the_later_ones_win(hello, wfe, tmp_path):
    (tmp_path / "in.yaml").write_text("name: file\ncount: 1\n")
    words = ["--input-file", "in.yaml", "--json-input", '{"count": 2, "deep": {}}', "-i", "name=pair"]
    assert wfe("runs", "start", "hello", *words).exit_code == 0
    assert started(hello).body["input"] == {"name": "pair", "count": 2, "deep": {}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-i", "count=many"], "input count: 'many' is not an integer"),
        (["-i", "count=true"], "input count: 'true' is not an integer"),
        (["-i", "deep=[1]"], "is not a JSON object"),
        (["-i", "name"], "--input 'name' is not name=value"),
        (["--json-input", "[1]"], "--json-input is not a JSON object"),
        (["--json-input", "{"], "--json-input is not JSON"),
        (["--input-file", "missing.json"], "missing.json cannot be read: No such file or directory"),
        (["-l", "team"], "--label 'team' is not name=value"),
    ],
)
def test_wrong_input_is_one_line_and_starts_nothing(hello, wfe, words, said):
    result = wfe("runs", "start", "hello", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not any(each.method == "POST" for each in hello.asked)


def test_a_template_that_is_missing_is_wrong_usage(server, wfe):
    server.on("GET", "/api/v1/templates", {"templates": []})
    result = wfe("runs", "start", "nope")
    assert result.exit_code == 2
    assert "there is no template 'nope'" in result.stderr


def test_a_refusal_is_one_line_with_reason_and_violations(hello, wfe):
    refusal = hello.refusal(
        "INPUT_INVALID", "the request has faults", **{"input.name": "is required", "x": "is unknown"}
    )
    hello.answers[("POST", "/api/v1/workflows")] = [(400, refusal)]
    result = wfe("runs", "start", "hello")
    assert result.exit_code == 3
    line = "wfe: refused: INPUT_INVALID: the request has faults; input.name: is required; x: is unknown\n"
    assert result.stderr == line


def test_the_list_is_a_table_for_people_and_json_for_scripts(server, wfe):
    page = {"workflows": [server.run(status="completed")], "total": 7, "limit": 1, "offset": 0}
    server.on("GET", "/api/v1/workflows", page)
    result = wfe("runs", "list", "--limit", "1", "--status", "completed")
    assert result.exit_code == 0
    assert "hello v2" in result.stdout
    assert "team=web" in result.stdout
    assert "1 of 7; see the rest with --offset 1" in result.stdout
    assert server.asked[0].query == {"limit": "1", "offset": "0", "status": "completed"}
    assert json.loads(wfe("runs", "list", "--json").stdout) == page


def test_get_shows_steps_gates_and_the_error(server, wfe):
    gate = {"id": server.GATE, "status": "open", "title": "Publish?", "approvers": {"groups": ["editors"]}}
    error = {"code": "ATTEMPT_TIMEOUT", "message": "took too long", "step": "greet"}
    server.on("GET", f"/api/v1/workflows/{server.RUN}", server.run(approvals=[gate], error=error))
    out = wfe("runs", "get", server.RUN).stdout
    assert "greet" in out
    assert "Publish?  (group editors)" in out
    assert "ATTEMPT_TIMEOUT in greet: took too long" in out


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "terminate", "retry"])
def test_each_action_is_its_call(server, wfe, action):
    server.on("POST", f"/api/v1/workflows/{server.RUN}/{action}", server.run(notice="greet will still finish"))
    result = wfe("runs", action, server.RUN, "--reason", "lunch")
    assert result.exit_code == 0
    assert server.asked[0].body == {"reason": "lunch"}
    assert "greet will still finish" in result.stdout


def test_a_fork_whose_answer_is_lost_is_repeated_under_the_same_key(server, wfe):
    path = f"/api/v1/workflows/{server.RUN}/fork"
    server.on("POST", path, {}, 503)
    server.on("POST", path, server.run(), 201)
    assert wfe("runs", "fork", server.RUN, "--at", "snap").exit_code == 0
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


@pytest.mark.parametrize(("action", "option"), [("rollback", "--to"), ("fork", "--at")])
def test_rollback_and_fork_name_their_snapshot(server, wfe, action, option):
    server.on("POST", f"/api/v1/workflows/{server.RUN}/{action}", server.run())
    assert wfe("runs", action, server.RUN, option, "snap").exit_code == 0
    assert server.asked[0].body == {"snapshot_id": "snap"}
    assert wfe("runs", action, server.RUN).exit_code == 2


def test_an_action_the_state_does_not_allow_is_refused(server, wfe):
    refusal = server.refusal("RUN_NOT_PAUSED", "the run is running")
    server.on("POST", f"/api/v1/workflows/{server.RUN}/resume", refusal, 409)
    result = wfe("runs", "resume", server.RUN)
    assert (result.exit_code, result.stderr) == (3, "wfe: refused: RUN_NOT_PAUSED: the run is running\n")


def events(*types):
    lines = [
        f"data: {json.dumps({'seq': seq, 'type': kind, 'at': '2026-01-01T00:00:00Z', 'data': {'step': 'greet'}})}\n\n"
        for seq, kind in enumerate(types, 1)
    ]
    return "".join(lines)


def test_watch_prints_events_and_ends_with_the_run(server, wfe):
    path = f"/api/v1/workflows/{server.RUN}"
    server.on("GET", f"{path}/watch", events("run.created", "step.completed", "run.completed"))
    server.on("GET", path, server.run(status="completed", events_total=3))
    result = wfe("runs", "watch", server.RUN)
    assert result.exit_code == 0
    assert [kind in result.stdout for kind in ("run.created", "step.completed", "run.completed")] == [True] * 3


def test_watching_a_run_that_fails_ends_with_1_and_says_why(server, wfe):
    path = f"/api/v1/workflows/{server.RUN}"
    server.on("GET", f"{path}/watch", events("run.failed"))
    server.on("GET", path, server.run(status="failed", reason="approval_rejected", events_total=1))
    result = wfe("runs", "watch", server.RUN)
    assert (result.exit_code, result.stderr) == (1, "wfe: the run failed: approval_rejected\n")
    result = wfe("runs", "watch", server.RUN, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == ["run.failed"]


def test_start_and_watch_in_one(hello, wfe):
    path = f"/api/v1/workflows/{hello.RUN}"
    hello.on("GET", f"{path}/watch", events("run.created", "run.completed"))
    hello.on("GET", path, hello.run(status="completed", events_total=2))
    result = wfe("runs", "start", "hello", "--watch")
    assert result.exit_code == 0, result.output
    assert "run.completed" in result.stdout


def test_a_large_value_is_written_whole(server, wfe):
    path = f"/api/v1/workflows/{server.RUN}/blobs/ab"
    server.on("GET", path, {"data": base64.b64encode(b'{"a": ').decode(), "offset": 0, "total": 8})
    server.on("GET", path, {"data": base64.b64encode(b"1}").decode(), "offset": 6, "total": 8})
    assert wfe("runs", "blob", server.RUN, "ab").stdout == '{"a": 1}'
    assert [asked.query for asked in server.asked] == [{"offset": "0"}, {"offset": "6"}]
