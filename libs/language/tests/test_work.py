"""What steps that executors run compile to, and secrets in them."""

from __future__ import annotations

import pytest
import wfe_language
from samples import step
from wfe_engine import plan
from wfe_engine.values import SEALED, Values, View


def params(text):
    """What the params of a step give, with one variable set."""
    source = step(text)
    assert wfe_language.validate(source) == []
    node = wfe_language.compile(source).root.nodes[1]
    return node, View(Values({"n": 7, "token": {SEALED: [{"var": "token"}]}}, {}), None, {}, None).render(node.params)


def test_secrets_are_placeholders_from_the_template_on():
    node, given = params(
        'id: b, http: {url: "https://x.y", auth: {bearer: "${{ secrets.A }}"}, headers: {X: "k ${{ secrets.B }}",'
        ' Y: "${{ vars.n }}-${{ secrets.A }}-${{ vars.token }}"}}'
    )
    assert node.sealed
    assert given["auth"] == {"bearer": {SEALED: [{"secret": "A"}]}}
    assert given["headers"]["X"] == {SEALED: ["k ", {"secret": "B"}]}
    assert given["headers"]["Y"] == {SEALED: ["7", "-", {"secret": "A"}, "-", {"var": "token"}]}


def test_all_secrets_of_a_plan_are_known():
    source = step('id: b, call: {handler: echo, input: ["${{ secrets.A }}", "x ${{ secrets.B }} ${{ vars.n }}"]}')
    compiled = wfe_language.compile(source)
    assert wfe_language.secrets_of(compiled) == {"A", "B"}
    assert wfe_language.secrets_of(compiled.root.nodes[0]) == frozenset()


@pytest.mark.parametrize("where", [{"x": {SEALED: [{"secret": "A"}]}}, {"deep": [{SEALED + "x": 1}]}])
def test_nobody_can_start_a_run_with_a_placeholder(where):
    variable = plan.Variable("given", {"type": "object"})
    _, violations = wfe_language.check_input([variable], {"given": where})
    assert [v.field for v in violations] == ["input.given"]
    assert "belongs to the engine" in violations[0].message


def test_no_expression_makes_a_placeholder():
    source = "{'$' + 'sealed': [{'secret': 'A'}]}"
    with pytest.raises(wfe_language.ExpressionError, match="belongs to the engine"):
        wfe_language.CelEvaluator().evaluate(plan.Cel(source, ()), {})


def test_an_agents_prompt_becomes_messages():
    _, given = params(
        'id: b, agent: {endpoint: "https://x.y/v1", model: m, api_key: "${{ secrets.A }}", system: s,'
        ' prompt: "say ${{ vars.n }}", limits: {tokens: 9}}'
    )
    assert given["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "say 7"}]
    assert given["limits"] == {"turns": 10, "tokens": 9}
    assert given["api_key"] == {SEALED: [{"secret": "A"}]}


def test_an_agents_tools_keep_what_their_calls_need():
    _, given = params(
        'id: b, agent: {endpoint: "https://x.y/v1", model: m, prompt: p, approval: {approvers: {users: [u]}}, tools: ['
        "{call: {handler: a.b, description: d}, approval: required},"
        ' {mcp: {server: {url: "https://m.y", auth: {bearer: "${{ secrets.A }}"}}, tools: [t]}}]}'
    )
    call, mcp = given["tools"]
    assert call == {
        "call": {"handler": "a.b", "name": "a_b", "description": "d", "parameters": {"type": "object"}},
        "approval": "required",
    }
    assert mcp["mcp"]["server"]["auth"] == {"bearer": {SEALED: [{"secret": "A"}]}}
    assert given["approval"]["policy"]["blocks"][0]["users"] == ["u"]
