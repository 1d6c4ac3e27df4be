"""What `wfe templates test` says of a template is what the engine does with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import wfe_language
from wfe_simulator import Fails, Gives, Mocks, simulate
from wfe_stack.rest import Rest

BLOCKS = """
name: simulated-blocks
variables: {items: {type: array, default: [4, 3, 2, 1]}}
steps:
  - id: guarded
    try:
      steps:
        - id: both
          parallel:
            on_failure: collect
            branches:
              list:
                - id: each
                  foreach:
                    items: "${{ vars.items }}"
                    concurrency: 2
                    on_failure: {tolerate: 1}
                    steps:
                      - {id: work, call: {handler: echo, input: {n: "${{ item }}", at: "${{ index }}"}}}
                      - {id: check, if: "${{ item == 3 }}", fail: {code: NOT_THREE, message: "at ${{ index }}"}}
                    output: "${{ steps.work.output.n * 10 }}"
              loop:
                steps:
                  - id: count
                    loop:
                      until: "${{ steps.up.output.n >= 3 }}"
                      max: 5
                      steps: [{id: up, call: {handler: echo, input: {n: "${{ index + 1 }}"}}}]
                output: "${{ steps.count.output.n }}"
              broken:
                - {id: broken, call: {handler: flaky, input: {failures: 9}}, retry: {max_attempts: 2, initial: 0s}}
        - id: route
          switch:
            value: "${{ steps.both.error.details.errors[0].code }}"
            cases:
              - {is: OTHER, steps: [{id: other, set: {x: 1}}]}
              - {is: FLAKY, steps: [{id: raise, fail: {code: RAISED, message: "${{ steps.both.error.code }}"}}]}
      catch:
        codes: [RAIS*]
        steps: [{id: caught, set: {code: "${{ error.code }}", step: "${{ error.step }}", said: "${{ error.message }}"}}]
      finally: [{id: last, emit: {name: ended, data: {failed: "${{ error != null }}"}}}]
output: {caught: "${{ steps.guarded.output }}"}
"""

FAILS = """
name: simulated-failure
steps:
  - id: each
    foreach:
      range: {to: 5}
      on_failure: {tolerate: 20%}
      steps: [{id: bad, if: "${{ item > 3 }}", fail: {code: TOO_LARGE, message: "${{ item }} is"}}]
"""

EXPRESSIONS = """
name: simulated-expressions
variables:
  words: {type: array, default: [b, cc, b]}
  at: {type: string, default: "2030-01-31T12:00:00Z"}
steps:
  - id: made
    set:
      sorted: "${{ vars.words.sort().unique() }}"
      joined: "${{ vars.words.map(word, word.upperAscii()).join('-') }}"
      sizes: "${{ vars.words.map(word, size(word)).sum() }}"
      day: "${{ time.format(vars.at, '%d.%m.%Y') }}"
      missing: "${{ {'a': 'x'}.?b.orValue('none') }}"
      text: "${{ json.encode({'b': vars.words, 'a': round(2.675, 2)}) }}"
      hash: "${{ hash.sha256(vars.at) }}"
  - {id: broken, call: {handler: echo, input: {list: ["${{ vars.words[5] }}"]}}}
"""


def seen(steps: Any) -> list[tuple[str, str, str, int]]:
    """Path, iteration, status and attempts of every step."""
    return sorted((step["path"], step["iteration"], step["status"], step["attempts"]) for step in steps)


@pytest.mark.parametrize("source", [BLOCKS, FAILS, EXPRESSIONS], ids=["blocks", "failure", "expressions"])
async def test_the_simulator_and_the_engine_agree(sam: Rest, publish: Callable[[str], Awaitable[str]], source: str):
    mocks = Mocks(handlers={"echo": Gives(echo=True), "flaky": Fails("FLAKY")})
    expected = simulate(wfe_language.compile(source), {}, mocks)
    run = await sam.post("/api/v1/workflows", {"template_id": await publish(source)})
    found = await sam.get(f"/api/v1/workflows/{run['id']}", wait_seconds=30)
    assert found["status"] == expected.status
    assert found.get("output") == expected.output
    steps = [
        {"path": s.path, "iteration": s.iteration, "status": s.status, "attempts": s.attempts} for s in expected.steps
    ]
    assert seen(found["steps"]) == seen(steps)
    if expected.error:
        assert (found["error"]["code"], found["error"]["message"]) == (
            expected.error["code"],
            expected.error["message"],
        )
    outputs = {(s.path, s.iteration): s.output for s in expected.steps if s.status == "completed"}
    for step in found["steps"]:
        if step["status"] == "completed":
            assert step.get("output") == outputs[step["path"], step["iteration"]], step["path"]
