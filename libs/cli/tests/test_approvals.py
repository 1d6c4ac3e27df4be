"""`wfe approvals`: every command is its call, with what was given."""

from __future__ import annotations

import pytest


@pytest.fixture
def gate(server):
    found = {
        "id": server.GATE, "workflow_id": server.RUN, "title": "Publish?", "status": "open", "on_expiry": "reject",
        "digest": "d1", "can_decide": False, "why_not": "you started the run", "payload": {"amount": 7}, "risk": "low",
        "quorum": {"need": 2, "have": 1, "blocks": [{"who": {"groups": ["legal"]}, "need": 2, "have": 1}]},
        "votes": [{"name": "ada", "vote": "approve", "counts": True, "comment": "fine"}],
    }  # fmt: skip
    server.on("GET", "/api/v1/approvals", {"approvals": [found]})
    server.on("GET", f"/api/v1/approvals/{server.GATE}", found)
    return found


def test_show_has_what_one_decides_by(server, wfe, gate):
    out = wfe("approvals", "show", server.RUN).stdout
    for text in (
        "Publish?",
        '"amount": 7',
        "1 of 2 from group legal",
        "ada approve: fine",
        "you started the run",
        "d1",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("words", "verb", "body"),
    [
        (["approve", "-c", "ok", "--form", '{"t":1}', "--edit", "/amount=5", "--digest", "d1"], "decide",
         {"decision": "approve", "comment": "ok", "expected_digest": "d1", "form": {"t": 1},
          "edits": [{"path": "/amount", "value": 5}]}),
        (["reject", "--reason-code", "dear", "--outcome", "branch:manual"], "decide",
         {"decision": "reject", "reason_code": "dear", "outcome": "branch:manual"}),
        (["revise", "-c", "shorter"], "decide", {"decision": "revise", "comment": "shorter"}),
        (["claim"], "claim", {}),
        (["release"], "release", {}),
        (["withdraw", "-r", "oops"], "withdraw-vote", {"reason": "oops"}),
        (["delegate", "bob", "-r", "away"], "delegate", {"to": "bob", "reason": "away"}),
        (["remind"], "remind", {"reason": ""}),
        (["bypass", "-r", "fire"], "bypass", {"reason": "fire"}),
    ],
)  # fmt: skip
def test_each_command_is_its_call(server, wfe, gate, words, verb, body):
    server.on("POST", f"/api/v1/approvals/{server.GATE}/{verb}", {**gate, "status": "open"})
    command, *more = words
    result = wfe("approvals", command, server.RUN, *more)
    assert result.exit_code == 0, result.stderr
    asked = server.asked[-1]
    assert (asked.method, asked.body) == ("POST", body)


def test_a_vote_that_leaves_it_open_says_what_is_missing(server, wfe, gate):
    server.on("POST", f"/api/v1/workflows/{server.RUN}/approvals/{server.GATE}/approve", gate)
    assert wfe("approvals", "approve", server.RUN).stdout == "open (1 of 2): Publish?\n"


def test_wrong_json_is_refused_before_anything_is_sent(server, wfe, gate):
    result = wfe("approvals", "approve", server.RUN, "--form", "{")
    assert (result.exit_code, server.asked) == (2, [])
    assert wfe("approvals", "approve", server.RUN, "--edit", "/amount").exit_code == 2


def test_extend_names_a_moment_and_a_reason(server, wfe, gate):
    server.on("POST", f"/api/v1/approvals/{server.GATE}/extend", gate)
    assert wfe("approvals", "extend", server.RUN, "--hours", "2", "-r", "holiday").exit_code == 0
    assert server.asked[-1].body["until"].endswith("Z")
    assert wfe("approvals", "extend", server.RUN, "--hours", "2").exit_code == 2


def test_link_batch_preview_count_and_delegations(server, wfe, gate):
    made = {"id": "l", "path": "/api/v1/links/wfl_x", "to": "ada", "expires_at": "2030-01-01T00:00:00Z"}
    server.on("POST", f"/api/v1/approvals/{server.GATE}/links", made)
    assert f"{server.url}/api/v1/links/wfl_x" in wfe("approvals", "link", server.RUN, "--to", "ada").stdout
    assert server.asked[-1].body == {"to": "ada", "expires_in_seconds": "86400"}
    refused = {"approval_id": server.GATE, "status": "", "reason": "X", "message": "too late"}
    server.on("POST", "/api/v1/approvals/decide", {"results": [refused]})
    assert "too late" in wfe("approvals", "batch", "approve", server.GATE).stdout
    assert server.asked[-1].body["items"] == [{"approval_id": server.GATE, "digest": "d1"}]
    step = {"path": "send", "effect": "change", "target": "POST https://a", "undo": "no"}
    answer = {"answer": "approve", "outcome": "", "run": "continues", "steps": [step], "gates": ["k"]}
    server.on("GET", f"/api/v1/approvals/{server.GATE}/preview", {"outcomes": [answer]})
    assert "POST https://a" in wfe("approvals", "preview", server.RUN).stdout
    server.on("GET", "/api/v1/approval-counts", {"open": 3, "mine": 1})
    assert wfe("approvals", "count").stdout == "open 3, mine 1\n"
    one = {"id": "d", "delegator": "ada", "delegate": "bob", "ends_at": "2030-01-01T00:00:00Z"}
    server.on("POST", "/api/v1/delegations", one)
    assert wfe("approvals", "delegations", "create", "bob", "--hours", "8").exit_code == 0
    server.on("GET", "/api/v1/delegations", {"delegations": [one]})
    assert "bob" in wfe("approvals", "delegations", "list").stdout
    server.on("DELETE", "/api/v1/delegations/d", one)
    assert wfe("approvals", "delegations", "revoke", "d").exit_code == 0


def test_show_says_where_large_values_are_and_who_took_its_place(server, wfe, gate):
    large = {"$blob": "ab" * 16, "bytes": 600_000}
    gate.update({"payload": large, "diff_left_out": "too many bytes", "replaced_by": "gate-2"})
    out = wfe("approvals", "show", server.RUN).stdout
    for text in (f"600000 bytes; see them with: wfe runs blob {server.RUN}", "too many bytes", "asked anew: gate-2"):
        assert text in out.replace("\n", " ").replace("  ", " ")


def test_list_asks_for_what_it_is_told(server, wfe, gate):
    words = ["--mine", "--claimed", "--risk", "low", "--template", "pay", "--status", "all", "--due", "2"]
    assert "Publish?" in wfe("approvals", "list", *words, "--run", server.RUN).stdout
    query = dict(server.asked[-1].query)
    assert query.pop("due_before").endswith("Z")
    assert query == {
        "mine": "true", "claimed": "true", "risk": "low", "template": "pay", "status": "all", "limit": "50",
        "offset": "0", "workflow_id": server.RUN,
    }  # fmt: skip
