"""Gates: what runs is what was approved, what is sent back is done again, and the log tells all of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from wfe_engine import commands as cmd
from wfe_engine.digests import approval_digest
from wfe_engine.plan import Literal, MapOf, Node, Path
from wfe_engine.sizes import MOST_BYTES

decode = msgspec.json.decode


def gate(**params: Any) -> Literal:
    return Literal({"title": "Go?", **params})


REVISE = {"revise": {"step": "draft", "max_rounds": 3}, "blocks": [{}]}
REASON = MapOf((("why", Path("revision", ("reason",), "revision.reason")),))


def drafting(make_run: Any, make_step: Any) -> Any:
    return make_run(
        make_step("before"),
        make_step("draft", params=REASON),
        make_step("aside", needs=("before",)),
        make_step("check", needs=("draft",)),
        make_step("review", "approval", needs=("check", "aside"), params=gate(policy=REVISE)),
        make_step("publish"),
    ).start()


def reach_review(run: Any) -> None:
    for path in ("before", "aside", "draft", "check"):
        if path in run.paths("ready"):
            run.report(path, b'{"text":"' + str(run.state.visit).encode() + b'"}')


def test_what_is_sent_back_is_done_again_with_the_reason_and_the_gate_opens_anew(make_run, make_step):
    run = drafting(make_run, make_step)
    reach_review(run)
    first = run.live("review")
    assert decode(run.rows.steps[2]["input"]) == {"why": ""}
    decision = run.gate("review", "revise", comment="too long")
    assert run.paths("ready") == ["draft"]
    assert [gone.path for gone in decision.effects.revised] == ["draft", "check"]
    again = decision.effects.dispatches[0]
    assert decode(again.request) == {"why": "too long"}
    assert again.visit == 2, "a key of its own, so that nobody takes it for the first"
    assert decision.effects.changes[0].status == "completed"
    assert run.types[-2:] == ["approval.revise_requested", "step.ready"]
    run.report("draft")
    assert run.paths("ready") == ["check"], "what stands aside is not done again"
    second = run.report("check").effects.gates[0]
    assert (second.round, second.replaces) == (1, first.gate)
    run.gate("review", "revise", comment="still too long")
    assert decode(run.decisions[-1].effects.dispatches[0].request) == {"why": "still too long"}
    reach_review(run)
    run.gate("review")
    assert run.paths("ready") == ["publish"]
    assert run.values.records["/review"].value["round"] == 2
    run.report("publish")
    assert run.status == "completed"


def test_what_is_sent_back_while_paused_goes_on_when_resumed(make_run, make_step):
    run = drafting(make_run, make_step)
    reach_review(run)
    run.do(cmd.Pause())
    run.gate("review", "revise", comment="no")
    assert run.paths("ready") == []
    run.do(cmd.Resume())
    assert run.paths("ready") == ["draft"]


def bound(make_run: Any, make_step: Any, **more: Any) -> Any:
    request = MapOf((("url", Path("vars", ("to",), "vars.to")), ("n", Literal(1))))
    return make_run(
        make_step("review", "approval", params=gate()),
        make_step("publish", "http", params=request, approved_by=0),
        make_step("after", needs=("publish",)),
        variables={"to": "https://a"},
        **more,
    ).start()


def test_people_are_shown_the_very_request_and_the_lease_carries_what_was_approved(make_run, make_step):
    run = bound(make_run, make_step)
    opened = run.decisions[0].effects.gates[0]
    assert decode(opened.payload) == {"url": "https://a", "n": 1}
    assert opened.digest == approval_digest("r", "publish", "", "http", {"n": 1, "url": "https://a"})
    assert decode(opened.bound) == ["publish", "", "http"]
    run.values.vars["to"] = "https://elsewhere"  # it is not evaluated again
    dispatch = run.gate("review").effects.dispatches[0]
    assert decode(dispatch.request) == {"url": "https://a", "n": 1}
    assert (dispatch.approval, dispatch.digest) == (opened.id, opened.digest)


def test_an_edited_payload_is_what_runs(make_run, make_step):
    run = bound(make_run, make_step)
    edited = {"url": "https://a", "n": 0}
    digest = approval_digest("r", "publish", "", "http", edited)
    dispatch = run.gate("review", payload=msgspec.json.encode(edited), digest=digest).effects.dispatches[0]
    assert (decode(dispatch.request), dispatch.digest) == (edited, digest)
    assert run.values.records["/review"].value["edited"] is True


def test_a_payload_that_is_not_what_the_digest_is_of_does_not_run(make_run, make_step):
    run = bound(make_run, make_step)
    run.gate("review", payload=b'{"url":"https://evil"}', digest="0" * 64)
    assert run.paths("ready") == []
    assert (run.status, run.state.fault.code) == ("failed", "APPROVAL_MISMATCH")


def test_a_step_that_was_not_approved_is_skipped(make_run, make_step):
    run = bound(make_run, make_step)
    run.gate("review", "branch", branch="manual")
    assert run.values.records["/publish"].status == "skipped"
    assert run.paths("ready") == ["after"]
    seen = run.values.records["/review"].value
    assert (seen["decision"], seen["branch"]) == ("reject", "manual")


def test_a_retry_runs_just_what_was_approved(make_run, make_step):
    run = bound(make_run, make_step)
    before = run.gate("review").effects.dispatches[0]
    run.fail("publish")
    run.do(cmd.Retry())
    again = run.decisions[-1].effects.redispatches[0]
    assert (again.approval, again.digest) == (before.approval, before.digest)


def test_an_approval_is_used_up_when_the_run_goes_back(make_run, make_step):
    run = bound(make_run, make_step)
    run.gate("review")
    kept = run.do(cmd.TakeSnapshot(snapshot="s"))
    state = kept.state
    run.report("publish")
    run.do(cmd.Rollback(snapshot="s", seq=state.seq, scopes=state.scopes))
    assert (run.status, run.state.fault.code) == ("failed", "APPROVAL_MISMATCH")


def test_notes_get_into_the_log_once_and_in_order(make_run, make_step):
    run = make_run(make_step("g", "approval")).start()
    gate_id = run.live("g").gate
    notes = tuple(cmd.Note(n=n, type=what, by="timer", at=1.0) for n, what in ((2, "reminded"), (3, "escalated")))
    told = run.do(cmd.GateNotes(gate=gate_id, notes=notes))
    assert run.types[-2:] == ["approval.reminded", "approval.escalated"]
    assert told.effects.noted == [(gate_id, 3)]
    again = run.do(cmd.GateNotes(gate=gate_id, notes=notes))
    assert (again.events, again.empty) == ([], False)
    last = (*notes, cmd.Note(n=4, type="voted", by="principal:p", at=2.0, data={"vote": "approve"}))
    run.gate("g", notes=last, via="vote", votes=[{"name": "ada", "vote": "approve"}])
    assert [t for t in run.types if t.startswith("approval.")] == [
        "approval.requested", "approval.reminded", "approval.escalated", "approval.voted", "approval.approved"
    ]  # fmt: skip


def test_a_bypass_is_told_beside_the_approval(make_run, make_step):
    run = make_run(make_step("g", "approval")).start()
    run.gate("g", via="bypass", comment="fire")
    assert "approval.bypassed" in run.types
    assert run.status == "completed"


def test_a_gate_that_opens_later_expires_later(make_run, make_step):
    params = gate(opens_after=60, expires_after=600, agenda=[[540, "expire", 0], [300, "remind", "50%"]])
    run = make_run(make_step("g", "approval", params=params)).start()
    row = run.decisions[0].effects.gates[0]
    assert (row.opens_at, row.expires_at) == (1060.0, 1660.0)
    assert decode(row.agenda) == [[60, "open", 0], [300, "remind", "50%"], [240, "expire", 0]]


@pytest.mark.parametrize("outcome", ["branch"])
def test_a_deadline_may_lead_into_a_branch(make_run, make_step, outcome):
    run = make_run(make_step("g", "approval"), make_step("b")).start()
    run.gate("g", outcome, expired=True, branch="late")
    assert run.paths("ready") == ["b"]
    assert run.values.records["/g"].value["expired"] is True


def test_a_gate_that_is_asked_again_after_the_run_went_back_says_which_it_replaces(make_run, make_step):
    run = make_run(make_step("work"), make_step("g", "approval"), make_step("after")).start()
    kept = run.do(cmd.TakeSnapshot(snapshot="s")).state

    def back() -> None:
        then = run.rows.records_at(kept.seq, kept.scopes)
        asked = run.rows.asked()
        run.do(cmd.Rollback(snapshot="s", seq=kept.seq, scopes=kept.scopes, records=then, asked=asked))

    run.report("work")
    first = run.live("g").gate
    back()  # it was open, and is opened again in another decision
    run.report("work")
    second = run.live("g").gate
    assert run.decisions[-1].effects.gates[0].replaces == first
    run.gate("g")
    back()  # it was decided
    run.report("work")
    assert run.decisions[-1].effects.gates[0].replaces == second
    kept = run.do(cmd.TakeSnapshot(snapshot="t")).state
    third = run.live("g").gate
    back()  # it is opened again in the very decision
    assert run.decisions[-1].effects.gates[0].replaces == third


def test_what_was_sent_back_since_counts_as_it_was_when_the_run_is_back_after_undoing(make_run, make_step, lib):
    undo = Node(id="draft", index=1, path="draft~", kind="call", params=Literal({}))
    text = Path("steps", ("draft", "output", "text"), "steps.draft.output.text")
    run = make_run(
        make_step("before"),
        make_step("draft", compensate=undo),
        make_step("review", "approval", params=MapOf((("title", text), ("policy", Literal(REVISE))))),
        compensate_on=frozenset({"rollback"}),
    ).start()
    run.report("before")
    run.report("draft", b'{"text":"first"}')
    kept = run.do(cmd.TakeSnapshot(snapshot="s")).state
    run.gate("review", "revise", comment="no")
    run.report("draft", b'{"text":"second"}')
    records = run.rows.records_at(kept.seq, kept.scopes)
    run.do(
        cmd.Rollback(
            snapshot="s", seq=kept.seq, scopes=kept.scopes, undo=kept.undo, records=records, asked=run.rows.asked()
        )
    )
    assert run.state.returning is not None, "what was done second is taken back first"
    run.reload()
    decision = run.report("draft~")
    assert run.state.returning is None
    assert [opened.title for opened in decision.effects.gates] == ["first"]
    assert run.values.records["/draft"].value == {"text": "first"}


def test_a_retry_supersedes_the_gates_that_the_end_of_the_run_withdrew(make_run, make_step):
    run = make_run(
        make_step("asked", "approval", needs=()),
        make_step("decided", "approval", needs=()),
        make_step("work", needs=()),
    ).start()
    asked, decided = run.live("asked").gate, run.live("decided").gate
    run.gate("decided", "reject")
    assert run.status == "failed"
    assert run.rows.gates[asked]["status"] == "withdrawn"
    run.rows.gates[decided]["status"] = "rejected"
    effects = run.do(cmd.Retry()).effects
    assert effects.superseded == [asked], "what was decided stays as it was decided"
    assert sorted(gate.replaces for gate in effects.gates) == sorted([asked, decided])
    told = [(event.TYPE, event.approval) for event, _ in run.log if event.TYPE.startswith("approval.superseded")]
    assert told == [("approval.superseded", asked)]
    run.do(cmd.Cancel())
    second = [gate for gate, row in run.rows.gates.items() if row["status"] == "withdrawn"]
    run.do(cmd.Retry())
    assert sorted(run.decisions[-1].effects.superseded) == sorted(second), "of each retry the newest"


@pytest.mark.parametrize(
    ("kind", "params", "code"),
    [
        ("approval", "payload", "INPUT_TOO_LARGE"),
        ("call", "input", "INPUT_TOO_LARGE"),
        ("set", "value", "OUTPUT_TOO_LARGE"),
    ],
)
def test_what_is_too_large_to_keep_is_refused_by_its_limit(make_run, make_step, kind, params, code):
    fits = make_run(make_step("g", kind, params=gate(**{params: "x" * (MOST_BYTES - 200)}))).start()
    assert fits.status != "failed"
    run = make_run(make_step("g", kind, params=gate(**{params: "x" * MOST_BYTES}))).start()
    assert (run.status, run.state.fault.code) == ("failed", code)
    assert run.state.fault.details["limit"] == MOST_BYTES
    assert str(MOST_BYTES) in run.state.fault.message
    assert run.rows.gates == {}
    assert run.rows.dispatch == {}
