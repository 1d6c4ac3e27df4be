"""Every sample template does what its file says."""

from __future__ import annotations

import pytest
from e2e_runs import decide, statuses, step_of, until
from wfe_stack.rest import Rest
from wfe_stack.settings import sample_folder

#: Input and output of each; who approves is the test's matter.
SAMPLES = {
    "hello": ({"name": "you"}, {"greeting": "Hello, you!"}),
    "one": ({}, None),
    "chain-10": ({}, None),
    "retry-and-wait": ({"failures": 2}, {"attempts": 3}),
    "data-pipeline-dag": (
        {"orders": [5, 12.5, 30]},
        {"totals": {"orders": 2, "customers": 2}, "report": "2 large orders, 2 customers"},
    ),
    "approve-refund": ({"customer": "c1", "amount": 80}, {"refunded": 80, "approved": False}),
    "pay-invoice": ({"supplier": "s1", "amount": 80}, None),
    "publish-article": (
        {"text": "A text.", "token": "t"},
        {"destination": "https://blog.example/articles", "summary": "A text.", "length": "short"},
    ),
}


def test_there_is_a_row_for_each():
    assert set(SAMPLES) == {path.stem for path in sample_folder().glob("*.yaml")}


@pytest.mark.parametrize("name", SAMPLES)
async def test_it_does_what_it_says(sam: Rest, ada: Rest, people, sample, name):
    given, output = SAMPLES[name]
    run = await sam.start({"template_id": await sample(name), "input": given})
    waiting = await until(sam, run["id"], lambda found: found["status"] not in ("pending", "running"))
    if waiting["status"] == "waiting_approval":
        two = name == "pay-invoice"
        for person in [await people("finance"), await people("finance")] if two else [ada]:
            await decide(person, waiting, "approve")
    done = await sam.wait_ended(run["id"])
    if name == "pay-invoice":
        output = {"paid": 80, "approval": waiting["approvals"][0]["id"]}
    assert (done["status"], done["output"]) == ("completed", output)
    assert set(statuses(done).values()) <= {"completed", "skipped"}
    if name == "retry-and-wait":
        assert step_of(done, "flaky")["attempts"] == 3
