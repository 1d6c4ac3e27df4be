"""A compensation whose params could not be computed fails in its turn, and is never called with nothing."""

from __future__ import annotations

import pytest
import wfe_language
from wfe_simulator import Fails, Gives, Mocks, simulate

SOURCE = """
name: t
steps:
  - id: first
    call: {handler: take}
    compensate: {call: {handler: give_back, input: {of: first}}}
  - id: second
    call: {handler: take}
    compensate:
      call: {handler: give_back, input: {of: "${{ steps.second.output.things[0] }}"}}
      retry: {max_attempts: 5}
  - id: third
    call: {handler: take}
    compensate: {call: {handler: give_back, input: {of: third}}}
  - {id: last, call: {handler: breaks}, retry: {max_attempts: 1}}
"""


@pytest.mark.parametrize("things", [[], None])
def test_it_fails_with_its_reason_and_the_others_go_on(things):
    called = []

    def give_back(request):
        called.append(request.input)
        return {}

    handlers = {"take": Gives({"things": things}), "give_back": give_back, "breaks": Fails("BROKEN")}
    result = simulate(wfe_language.compile(SOURCE), {}, Mocks(handlers=handlers))
    assert called == [{"of": "third"}, {"of": "first"}]
    assert (result.status, result.error["code"]) == ("failed", "BROKEN")
    assert result.error["details"]["not_undone"] == ["second"]
    undone = result.step("second~")
    assert (undone.status, undone.attempts, undone.error["code"]) == ("failed", 0, "EXPRESSION_ERROR")
    assert "compensate.call" in undone.error["message"]
    assert [result.step(f"{name}~").status for name in ("first", "third")] == ["completed", "completed"]


def test_it_is_skipped_like_the_others_when_nothing_is_taken_back():
    handlers = {"take": Gives({"things": []}), "breaks": Gives({})}
    result = simulate(wfe_language.compile(SOURCE), {}, Mocks(handlers=handlers))
    assert result.status == "completed"
    assert [result.step(f"{name}~").status for name in ("first", "second", "third")] == ["skipped"] * 3
