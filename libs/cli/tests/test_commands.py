"""What all commands share, and the smaller groups of them."""

from __future__ import annotations

import json

import pytest


def test_a_server_that_is_away_is_one_line(wfe, unused_tcp_port, monkeypatch):
    monkeypatch.setattr("wfe_cli.commands.REPEAT_SECONDS", 0)
    result = wfe("--url", f"http://127.0.0.1:{unused_tcp_port}", "runs", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"wfe: http://127.0.0.1:{unused_tcp_port} does not answer: ")
    assert result.stderr.count("\n") == 1


def test_the_key_is_the_persons_or_the_named_one(server, wfe, monkeypatch):
    server.on("GET", "/api/v1/workflows", {"workflows": []})
    server.on("GET", "/api/v1/approvals", {"approvals": []})
    server.on("GET", "/api/v1/groups", {"groups": [], "total": 0})
    wfe("runs", "list")
    wfe("approvals", "list")
    wfe("groups", "list")
    wfe("runs", "list", "--as", "root")
    monkeypatch.setenv("WFE_API_KEY", "wfe_mine")
    wfe("runs", "list")
    wfe("runs", "list", "--as", "ada")
    keys = [each.headers["authorization"].removeprefix("Bearer wfe_") for each in server.asked]
    assert keys == ["sam", "ada", "root", "root", "mine", "ada"]


def test_without_keys_the_mend_is_said(wfe, tmp_path):
    (tmp_path / ".wfe" / "keys.json").unlink()
    result = wfe("runs", "list")
    assert result.exit_code == 1
    assert "start the engine with `wfe up`" in result.stderr


@pytest.mark.parametrize(
    "words", [["runs"], ["runs", "start"], ["runs", "nope"], ["--nope"], ["runs", "list", "--limit", "x"]]
)
def test_wrong_usage_is_2(wfe, words):
    assert wfe(*words).exit_code == 2


def test_a_call_with_an_unknown_field_is_refused_before_it_is_made(server, wfe):
    result = wfe("call", "POST", "/api/v1/workflows", "-d", '{"template": "x"}')
    assert (result.exit_code, server.asked) == (2, [])
    assert "template is no field of this call; did you mean template_id?" in result.stderr
    result = wfe("call", "POST", f"/api/v1/workflows/{server.RUN}/pause", "-d", '{"why": "x"}')
    assert "why is no field of this call; there are id, reason" in result.stderr


def test_a_call_of_no_path_or_method_is_refused_before_it_is_made(server, wfe):
    assert "the API has no path /api/v2/workflows" in wfe("call", "GET", "/api/v2/workflows").stderr
    assert "/api/v1/workflows takes GET, POST, not PUT" in wfe("call", "PUT", "/api/v1/workflows").stderr
    assert server.asked == []


def test_any_call_can_be_made(server, wfe):
    server.on("POST", "/api/v1/workflows", server.run(), 201)
    body = {"template_id": server.TEMPLATE, "input": {"anything": [1]}, "labels": {"a": "b"}}
    result = wfe("call", "post", "/api/v1/workflows", "-d", "-", "--key", "k1", input=json.dumps(body))
    assert json.loads(result.stdout)["id"] == server.RUN
    assert (server.asked[0].body, server.asked[0].headers["idempotency-key"]) == (body, "k1")


def test_faults_of_a_template_are_file_line_and_mend(server, wfe, tmp_path):
    (tmp_path / "bad.yaml").write_text("name: bad\n")
    fault = {"path": "steps", "line": 1, "column": 2, "reason": "is missing.", "mend": "Add a step."}
    server.on("POST", "/api/v1/templates/validate", {"faults": [fault]})
    for words in (["validate"], ["publish"]):
        result = wfe("templates", *words, "bad.yaml")
        assert result.exit_code == 1
        assert "bad.yaml:1:2: steps: is missing. Add a step.\n" in result.stderr
        assert result.stderr.endswith("wfe: bad.yaml has 1 fault\n")
    result = wfe("templates", "validate", "bad.yaml", "--json")
    assert (result.exit_code, json.loads(result.stdout), result.stderr) == (1, {"faults": [fault]}, "")


def test_publish_makes_a_new_template_or_the_next_version(server, wfe, tmp_path):
    (tmp_path / "hello.yaml").write_text("name: hello\nsteps: []\n")
    template = {"id": server.TEMPLATE, "name": "hello", "latest_version": 1}
    server.on("POST", "/api/v1/templates/validate", {"faults": []})
    server.on("GET", "/api/v1/templates", {"templates": []})
    server.on("GET", "/api/v1/templates", {"templates": [template]})
    server.on("POST", "/api/v1/templates", template, 201)
    server.on("PUT", f"/api/v1/templates/{server.TEMPLATE}", template)
    version = {"template_id": server.TEMPLATE, "name": "hello", "version": 1}
    server.on("POST", f"/api/v1/templates/{server.TEMPLATE}/publish", version)
    for _ in range(2):
        assert f"published hello v1  {server.TEMPLATE}" in wfe("templates", "publish", "hello.yaml").stdout
    assert [each.method for each in server.asked if "validate" not in each.path] == [
        "GET",
        "POST",
        "POST",
        "GET",
        "PUT",
        "POST",
    ]


def test_get_prints_the_source_as_it_was_written(server, wfe):
    server.on("GET", "/api/v1/templates", {"templates": [{"id": server.TEMPLATE, "name": "hello"}]})
    server.on("GET", f"/api/v1/templates/{server.TEMPLATE}/versions/1", {"source": "name: hello  # [bold]\n"})
    assert wfe("templates", "get", "hello", "--version", "1").stdout == "name: hello  # [bold]\n"


@pytest.fixture
def gate(server):
    found = {"id": server.GATE, "workflow_id": server.RUN, "status": "open", "title": "Publish?", "approvers": {}}
    server.on("GET", f"/api/v1/approvals/{server.GATE}", found)
    decided = f"/api/v1/workflows/{server.RUN}/approvals/{server.GATE}"
    server.on("POST", f"{decided}/approve", {**found, "status": "approved"})
    server.on("POST", f"{decided}/reject", {**found, "status": "rejected"})
    return found


def test_a_gate_is_decided_by_its_id_or_by_its_run(server, wfe, gate):
    server.on("GET", "/api/v1/approvals", {"approvals": []})
    server.on("GET", "/api/v1/approvals", {"approvals": [gate]})
    assert wfe("approvals", "approve", server.GATE, "-c", "fine").stdout == "approved: Publish?\n"
    assert wfe("approvals", "reject", server.RUN).stdout == "rejected: Publish?\n"
    decisions = [each for each in server.asked if each.method == "POST"]
    assert [(each.path.rpartition("/")[2], each.body) for each in decisions] == [
        ("approve", {"comment": "fine"}),
        ("reject", {}),
    ]


def test_a_run_with_two_open_gates_wants_one_named(server, wfe, gate):
    server.on("GET", "/api/v1/approvals", {"approvals": [gate, {**gate, "id": "other"}]})
    result = wfe("approvals", "approve", server.RUN)
    assert result.exit_code == 2
    assert f"the run has 2 open approvals; name one of {server.GATE}, other" in result.stderr


def test_the_inbox_is_a_table(server, wfe, gate):
    server.on("GET", "/api/v1/approvals", {"approvals": [gate], "total": 1})
    out = wfe("approvals", "list", "--mine").stdout
    assert "every approver" in out
    assert server.asked[0].query["mine"] == "true"


def test_a_new_key_is_printed_alone_so_that_scripts_can_take_it(server, wfe):
    server.on("GET", "/api/v1/principals", {"principals": [{"id": "p1", "name": "sam"}], "total": 1})
    server.on("POST", "/api/v1/keys", {"id": "abcd1234", "secret": "wfe_secret"}, 201)
    result = wfe("keys", "create", "--for", "sam", "--role", "viewer")
    assert result.stdout == "wfe_secret\n"
    assert server.asked[-1].body == {"name": "", "roles": ["viewer"], "expires_in_seconds": 0, "principal_id": "p1"}
    assert wfe("keys", "create", "--for", "eve").exit_code == 2


def test_keys_are_rotated_and_revoked(server, wfe):
    server.on("POST", "/api/v1/keys/abcd1234/rotate", {"id": "efgh5678", "secret": "wfe_next"}, 201)
    server.on("POST", "/api/v1/keys/abcd1234/revoke", {"id": "abcd1234"})
    assert wfe("keys", "rotate", "abcd1234", "--overlap", "0").stdout == "wfe_next\n"
    assert server.asked[0].body == {"overlap_seconds": 0}
    assert wfe("keys", "revoke", "abcd1234").stdout == "revoked abcd1234\n"


def test_principals_join_and_leave_groups(server, wfe):
    group = {"id": "g1", "name": "editors", "members": [{"id": "p1", "name": "ada"}]}
    server.on("GET", "/api/v1/groups", {"groups": [group], "total": 1})
    server.on("GET", "/api/v1/principals", {"principals": [{"id": "p1", "name": "ada"}], "total": 1})
    server.on("PUT", "/api/v1/groups/g1/members/p1", group)
    server.on("DELETE", "/api/v1/groups/g1/members/p1", {**group, "members": []})
    assert wfe("groups", "add", "editors", "ada").stdout == "editors: ada\n"
    assert wfe("groups", "remove", "editors", "ada").stdout == "editors: nobody\n"
