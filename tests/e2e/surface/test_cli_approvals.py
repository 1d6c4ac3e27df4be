"""`wfe approvals` against the real engine: the inbox, everything one does there, and what becomes of it."""

from __future__ import annotations

import uuid

import pytest
from test_cli import Cli
from wfe_stack.rest import Refused, Rest
from wfe_stack.waiting import wait_for

SOURCE = """
name: {name}
steps:
  - {{id: draft, set: {{why: "${{{{ revision.reason }}}}"}}}}
  - id: review
    approval:
      title: "Pay {name}?"
      payload: {{amount: 5}}
      policy: [{{from: {{role: approver}}}}]
      reject: {{outcomes: [fail, "branch:manual"], options: [dear]}}
      revise: {{step: draft}}
      form: {{schema: {{type: object, properties: {{ticket: {{type: string}}}}}}, editable: [/amount]}}
      expires: {{after: 1h, then: reject}}
      risk: low
  - {{id: after, set: {{branch: "${{{{ steps.review.output.branch }}}}"}}}}
"""


@pytest.fixture
def cli(stack, tmp_path):
    return Cli(stack, tmp_path)


@pytest.fixture
async def template(cli, tmp_path):
    """The name of a template with a gate that has everything."""
    name = f"cliap{uuid.uuid4().hex}"
    (tmp_path / "t.yaml").write_text(SOURCE.format(name=name))
    await cli.json("templates", "publish", str(tmp_path / "t.yaml"))
    return name


async def asked(cli, template: str) -> tuple[str, str]:
    """A new run, and its gate."""
    run = (await cli.json("runs", "start", template))["id"]
    return run, await gate_of(cli, run)


async def gate_of(cli, run: str) -> str:
    async def gate():
        return next(iter((await cli.json("approvals", "list", "--run", run))["approvals"]), None)

    found = await wait_for(gate, what="a gate")
    return str(found["id"])


async def test_the_inbox_and_what_one_sees_before_deciding(cli, template):
    run, gate = await asked(cli, template)
    for words in ([], ["--mine"], ["--risk", "low"], ["--due", "2"], ["--status", "open"]):
        listed = await cli.json("approvals", "list", "--template", template, *words)
        assert [one["id"] for one in listed["approvals"]] == [gate], words
    for words in (["--claimed"], ["--risk", "high"], ["--due", "0.5"], ["--status", "approved"]):
        assert (await cli.json("approvals", "list", "--template", template, *words))["total"] == 0, words
    counts = await cli.json("approvals", "count")
    assert counts["open"] >= 1
    assert counts["mine"] >= 1
    shown = await cli.json("approvals", "show", gate)
    assert (shown["payload"], shown["can_decide"]) == ({"amount": 5}, True)
    _, out, _ = await cli.run("approvals", "show", run)
    for part in (f"Pay {template}?", '"amount": 5', "0 of 1 from role approver", "you may decide it"):
        assert part in out, part
    preview = await cli.json("approvals", "preview", gate)
    assert [(one["answer"], one["outcome"]) for one in preview["outcomes"]] == [
        ("approve", ""), ("reject", "fail"), ("reject", "branch:manual"), ("revise", "revise"), ("expire", "reject"),
    ]  # fmt: skip
    code, out, _ = await cli.run("approvals", "preview", gate)
    assert (code, "after" in out) == (0, True)


async def test_what_one_does_before_deciding(cli, template, rest_as):
    _, gate = await asked(cli, template)
    assert (await cli.json("approvals", "claim", gate))["claimed_by"]
    with pytest.raises(Refused) as refusal:
        await rest_as("eve").post(f"/api/v1/approvals/{gate}/decide", {"decision": "approve"})
    assert refusal.value.reason == "GATE_CLAIMED"
    code, _, errors = await cli.run("approvals", "approve", gate, "--as", "root")
    assert (code != 0, "not among the approvers" in errors) == (True, True)
    assert [one["id"] for one in (await cli.json("approvals", "list", "--claimed"))["approvals"]] == [gate]
    assert (await cli.json("approvals", "release", gate))["claimed_by"] == ""
    before = (await cli.json("approvals", "show", gate))["expires_at"]
    assert (await cli.json("approvals", "extend", gate, "--hours", "3", "-r", "holiday"))["expires_at"] > before
    await cli.json("approvals", "remind", gate, "-r", "today")
    await cli.json("approvals", "delegate", gate, "olga", "-r", "away")
    made = await cli.json("approvals", "link", gate, "--hours", "1")
    nobody = Rest(rest_as("ada").url, None)
    try:
        done = await nobody.post(made["path"], {"decision": "approve"})
    finally:
        await nobody.close()
    assert (done["status"], done["decided_via"]) == ("approved", "link")
    run = (await cli.json("approvals", "show", gate))["workflow_id"]
    events = {one["type"] for one in (await rest_as("sam").get(f"/api/v1/workflows/{run}"))["events"]}
    assert events >= {
        f"approval.{word}"
        for word in (
            "claimed", "released", "extended", "reminded", "delegated", "link_issued", "link_used", "approved",
        )
    }  # fmt: skip


async def test_every_way_to_decide(cli, template, rest_as):
    run, gate = await asked(cli, template)
    digest = (await cli.json("approvals", "show", gate))["digest"]
    words = ["-c", "fine", "--form", '{"ticket": "T-1"}', "--digest", digest]
    assert (await cli.json("approvals", "approve", gate, *words))["form_values"] == {"ticket": "T-1"}
    run, gate = await asked(cli, template)
    rejected = await cli.json("approvals", "reject", gate, "--reason-code", "dear", "--outcome", "branch:manual")
    assert (rejected["status"], rejected["branch"], rejected["reason_code"]) == ("rejected", "manual", "dear")
    run, first = await asked(cli, template)
    assert (await cli.json("approvals", "revise", first, "-c", "say why"))["status"] == "revise"
    second = await gate_of(cli, run)
    _, out, _ = await cli.run("approvals", "show", first)
    assert f"asked anew: {second}" in out
    code, _, errors = await cli.run("approvals", "approve", first)
    assert (code != 0, second in errors) == (True, True)
    third = (await asked(cli, template))[1]
    batch = await cli.json("approvals", "batch", "reject", second, third, "--reason-code", "dear")
    assert [one["status"] for one in batch["results"]] == ["rejected", "rejected"]
    _, gate = await asked(cli, template)
    code, _, errors = await cli.run("approvals", "bypass", gate, "-r", "fire", "--as", "root")
    assert (code != 0, "breakglass" in errors) == (True, True), "no other role includes it"
    await cli.json("approvals", "reject", gate)


async def test_a_vote_is_taken_back_and_others_stand_in(cli, template, tmp_path):
    source = SOURCE.format(name=template).replace("[{from: {role: approver}}]", "[{from: {role: approver}, count: 2}]")
    (tmp_path / "t.yaml").write_text(source)
    await cli.json("templates", "publish", str(tmp_path / "t.yaml"))
    _, gate = await asked(cli, template)
    _, out, _ = await cli.run("approvals", "approve", gate)
    assert out.startswith("open (1 of 2)")
    assert (await cli.json("approvals", "withdraw", gate, "-r", "the wrong one"))["quorum"]["have"] == 0
    made = await cli.json("approvals", "delegations", "create", "olga", "--hours", "8", "-r", "holiday")
    assert (made["delegator"], made["delegate"]) == ("ada", "olga")
    assert made["id"] in [one["id"] for one in (await cli.json("approvals", "delegations", "list"))["delegations"]]
    await cli.json("approvals", "delegations", "revoke", made["id"])
    listed = await cli.json("approvals", "delegations", "list", "--all")
    assert [one["revoked_at"] != "" for one in listed["delegations"] if one["id"] == made["id"]] == [True]
    await cli.json("approvals", "reject", gate)
