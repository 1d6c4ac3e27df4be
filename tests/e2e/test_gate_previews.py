"""What a preview says before anybody decides: steps, what they do outside, and what can be taken back."""

from __future__ import annotations

import itertools

import pytest
from e2e_runs import path_of, until

NAMES = itertools.count(1)


@pytest.fixture
def run_of(start, sam):
    """Starts a run of steps that wait at their first gate; its id."""

    async def begin(steps: str, **given):
        variables = "".join(f"  {name}: {{}}\n" for name in given)
        head = f"name: preview-{next(NAMES)}\n" + (f"variables:\n{variables}" if variables else "")
        return (await start(f"{head}steps:\n{steps}", **given))["id"]

    return begin


async def gates_of(sam, run):
    """The gates of a run that waits for one."""
    return (await until(sam, run, "waiting_approval"))["approvals"]


async def test_a_preview_says_what_follows(sam, ada, run_of):
    run = await run_of(
        """
  - {id: g, approval: {title: t, approvers: {roles: [approver]}, reject: {outcomes: [fail, "branch:manual"]},
     expires: {after: 1h, then: reject}}}
  - {id: send, http: {method: POST, url: "https://example.com/${{ vars.n }}"}, approved_by: g}
  - {id: look, if: "${{ vars.n > 1 }}", http: {url: "${{ steps.send.output.body }}"}}
  - {id: k, approval: {title: t, approvers: {roles: [approver]}}}
  - {id: last, call: {handler: echo}}
""",
        n=7,
    )
    (gate,) = await gates_of(sam, run)
    preview = await ada.get(f"/api/v1/approvals/{gate['id']}/preview")
    found = {(o["answer"], o["outcome"]): o for o in preview["outcomes"]}
    assert set(found) == {("approve", ""), ("reject", "fail"), ("reject", "branch:manual"), ("expire", "reject")}
    assert [(s["path"], s["effect"], s["target"], s["undo"], s["certain"]) for s in found["approve", ""]["steps"]] == [
        ("send", "change", "POST https://example.com/7", "no", "yes"),
        ("look", "read", "GET", "nothing_to_undo", "maybe"),
    ]  # fmt: skip
    assert found["approve", ""]["gates"] == ["k"]
    assert [s["path"] for s in found["reject", "branch:manual"]["steps"]] == ["look"]
    assert found["reject", "fail"]["run"] == found["expire", "reject"]["run"] == "fails"


async def test_a_preview_says_what_can_be_taken_back_and_what_a_rejection_takes_back(sam, ada, run_of):
    run = await run_of("""
  - id: reserve
    call: {handler: echo, input: {room: 7}}
    compensate: {http: {method: DELETE, url: "http://127.0.0.1:9/rooms/${{ steps.reserve.output.room }}"}}
  - {id: g, approval: {title: t, approvers: {roles: [approver]}, expires: {after: 1h, then: reject}}}
  - id: pay
    http: {method: POST, url: "https://example.com/pay"}
    compensate: {http: {method: POST, url: "https://example.com/refund"}}
  - {id: mail, http: {method: POST, url: "https://example.com/mail"}}
""")
    (gate,) = await gates_of(sam, run)
    preview = await ada.get(f"/api/v1/approvals/{gate['id']}/preview")
    found = {
        o["answer"]: [(s["path"], s["effect"], s["target"], s["undo"]) for s in o["steps"]] for o in preview["outcomes"]
    }
    assert found["approve"] == [
        ("pay", "change", "POST https://example.com/pay", "yes"),
        ("mail", "change", "POST https://example.com/mail", "no"),
    ]  # fmt: skip
    taken_back = [(path, effect, target) for path, effect, target, _ in found["reject"]]
    assert [target for _, _, target in taken_back] == ["DELETE http://127.0.0.1:9/rooms/7"]
    assert found["expire"] == found["reject"]
    await sam.post(path_of(run, "cancel"))
