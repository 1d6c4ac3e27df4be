"""What of gates is seen over several steps: what they approve, what they send back, what follows their deadline."""

from __future__ import annotations

import pytest
import wfe_language

HEAD = "name: t\nvariables: {to: {type: string, default: https://a}}\nsteps:\n"
ASKS = "approval: {title: t, approvers: {groups: [g]}"


def faults(*steps: str) -> list[str]:
    source = HEAD + "".join(f"  - {{{step}}}\n" for step in steps)
    return [f"{fault.path}: {fault.reason}" for fault in wfe_language.validate(source)]


def test_a_step_is_bound_to_its_gate():
    source = HEAD + f"  - {{id: g, {ASKS}}}}}\n  - {{id: p, http: {{url: '${{{{ vars.to }}}}'}}, approved_by: g}}\n"
    assert [node.approved_by for node in wfe_language.compile(source).root.nodes] == [-1, 0]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (["id: a, call: {handler: h}", f"id: g, {ASKS}}}", "id: p, call: {handler: h}, approved_by: a"],
         "steps[2].approved_by: This is no gate of the same list."),
        ([f"id: g, {ASKS}}}", "id: p, wait: {for: 1s}, approved_by: g"],
         "steps[1].approved_by: Only a step that an executor runs is approved so."),
        ([f"id: g, {ASKS}}}", "id: p, call: {handler: h}, approved_by: g", "id: q, call: {handler: h}, approved_by: g"],
         "steps[2].approved_by: The gate approves p already."),
        ([f"id: g, {ASKS}, payload: 1}}", "id: p, call: {handler: h}, approved_by: g"],
         "steps[0].approval.payload: What is shown is what p will do."),
        ([f"id: g, {ASKS}}}", "id: a, call: {handler: h}",
          'id: p, call: {handler: h, input: "${{ steps.a.output }}"}, approved_by: g'],
         "steps[2].call.input: The step a may not have ended before p."),
    ],
)  # fmt: skip
def test_what_cannot_be_approved_is_refused(steps, reason):
    assert faults(*steps) == [reason]


def test_the_reason_is_known_to_steps_that_are_sent_back_and_to_no_others():
    draft = 'id: draft, call: {handler: h, input: "${{ revision.reason }}"}'
    assert faults(draft, f"id: g, {ASKS}, revise: {{max_rounds: 2}}}}") == []
    assert faults(draft, f"id: g, {ASKS}}}") == [
        "steps[0].call.input: revision means nothing in the params of a call step."
    ]
    unknown = 'id: draft, call: {handler: h, input: "${{ revision.resaon }}"}'
    assert faults(unknown, f"id: g, {ASKS}, revise: {{}}}}") == ["steps[0].call.input: A revision has no field resaon."]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([f"id: g, {ASKS}, revise: {{}}}}"], "steps[0].approval.revise: It is not said which step is done again."),
        (["id: a, call: {handler: h}", f"id: g, {ASKS}, revise: {{step: x}}}}"],
         "steps[1].approval.revise.step: This is no step before the gate, of the same list."),
        (["id: a, call: {handler: h}", f"id: g, needs: [a], {ASKS}, revise: {{}}}}",
          f"id: k, needs: [a], {ASKS}, revise: {{}}}}"],
         "steps[2].approval.revise: Another gate that revises is open at the same time."),
        (["id: a, call: {handler: h}", f"id: g, {ASKS}, reject: {{outcomes: [revise]}}}}"],
         "steps[1].approval.reject.outcomes[0]: The gate has no revise."),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_back_is_refused(steps, reason):
    assert faults(*steps) == [reason]


AUTO = f"id: g, {ASKS}, expires: {{after: 1h, then: approve}}}}"
POST = "id: p, http: {method: POST, url: https://a}"


def test_a_deadline_does_not_approve_what_cannot_be_undone():
    found = "steps[0].approval.expires: The gate g approves by itself, and p after it cannot be undone."
    assert faults(AUTO, POST) == [found]
    assert faults(AUTO, "id: a, call: {handler: h}", POST) == [found]
    assert faults(AUTO, f"id: k, {ASKS}}}", POST) == [], "another gate stands before it"
    assert faults(AUTO, "id: p, http: {url: https://a}") == []
    inside = f"id: x, parallel: {{branches: {{one: [{{{AUTO}}}]}}}}"
    assert faults(inside, POST) == ["steps: The gate x/one/g approves by itself, and p after it cannot be undone."]
    assert faults(AUTO, f"id: x, parallel: {{branches: {{one: [{{{POST}}}]}}}}") == [
        found.replace("p after", "x/one/p after")
    ]
