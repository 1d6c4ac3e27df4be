"""Every fault is found, where it is, with a mend; all of them at once."""

from __future__ import annotations

import time

import pytest
import wfe_language
from samples import BASE, HANDLERS, chain, faulty, name_of, step

ALL = faulty("text") + faulty("structure") + faulty("meaning")


@pytest.mark.parametrize("case", ALL, ids=name_of)
def test_faults_have_their_place_and_a_mend(case):
    found = wfe_language.validate(case.source, handlers=HANDLERS)
    assert [(f.path, f.line, f.column) for f in found] == [tuple(fault[:3]) for fault in case.faults]
    for fault, (*_, reason, mend) in zip(found, case.faults, strict=True):
        assert fault.reason.startswith(reason)
        assert fault.mend.startswith(mend)
        assert fault.reason.endswith(".")
        assert fault.mend.endswith((".", "?"))


def test_all_faults_come_at_once_and_in_order():
    wrong = [case for case in faulty("structure") if case.source.startswith(BASE + "  - {id: b,")][:70]
    steps = [case.source.removeprefix(BASE).replace("id: b", f"id: b{at}") for at, case in enumerate(wrong)]
    found = wfe_language.validate(BASE + "".join(steps), handlers=HANDLERS)
    assert len(wrong) > 30
    assert {f.line for f in found} == set(range(9, 9 + len(wrong)))
    assert [(f.line, f.column) for f in found] == sorted((f.line, f.column) for f in found)


def test_compile_raises_what_validate_gives():
    source = step('id: b, needs: [aa], call: {handler: echo, input: "${{ vars.m }}"}')
    with pytest.raises(wfe_language.TemplateFaults) as caught:
        wfe_language.compile(source)
    assert list(caught.value.faults) == wfe_language.validate(source)
    assert [v.field for v in caught.value.violations] == ["steps[1].needs[0]", "steps[1].call.input"]
    assert "line 9, column" in str(caught.value)
    assert str(caught.value.faults[0]).startswith("9:21: steps[1].needs[0]: There is no step aa. Did you mean")


def test_handlers_are_checked_only_when_they_are_known():
    source = step("id: b, call: {handler: nobody_has_it}")
    assert wfe_language.validate(source) == []
    (fault,) = wfe_language.validate(source, handlers=["echo"])
    assert fault.reason == "No executor has a handler nobody_has_it."
    assert fault.mend == "Known: echo."
    assert len(wfe_language.validate(source, handlers=[])) == 2


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("name: t\nsteps:\n" + "  - {call: {handler: echo}}\n" * 1001, "more than 1000 steps"),
        (
            "name: t\nvariables:\n" + "".join(f"  v{i}: {{type: string}}\n" for i in range(101)) + "steps: []",
            "101 variables",
        ),
        (BASE + 'output: "${{ ' + "1 + " * 1100 + '1 }}"', "longer than 4096 bytes"),
        (BASE + 'output: "${{ ' + "(" * 50 + "1" + ")" * 50 + ' }}"', "nested more than 32 levels"),
        (BASE + "output: " + "[" * 40 + "]" * 40, "more than 32 levels deep"),
        (BASE + "output: " + "x" * (256 * 1024), "more than 262144"),
        (BASE + "output: " + "é" * (128 * 1024), "more than 262144"),
        (BASE + "output:\n" + "".join(f'  - "${{{{ 1 + {i} }}}}"\n' for i in range(2001)), "more than 2000"),
    ],
)  # fmt: skip
def test_limits(source, reason):
    began = time.perf_counter()
    found = wfe_language.validate(source)
    assert reason in " ".join(f.reason for f in found)
    assert time.perf_counter() - began < 5


def test_a_thousand_steps_are_allowed():
    assert wfe_language.validate(chain(1000)) == []


def test_no_more_than_a_hundred_faults_are_named():
    source = BASE + "".join(f"  - {{id: b{i}, foo: 1}}\n" for i in range(500))
    assert len(wfe_language.validate(source)) == 100


def test_a_cycle_is_named_once_whole():
    source = """\
name: t
steps:
  - {id: a, needs: [d], call: {handler: echo}}
  - {id: b, needs: [a], call: {handler: echo}}
  - {id: c, needs: [b], call: {handler: echo, input: "${{ steps.a.output }}"}}
  - {id: d, needs: [c], call: {handler: echo}}
  - {id: e, needs: [], call: {handler: echo}}
"""
    (fault,) = wfe_language.validate(source)
    assert fault.reason == "The steps need each other in a circle: a needs d needs c needs b needs a."
    assert fault.mend == "Remove one of these needs."


def test_places_inside_block_text_and_behind_escapes():
    block = BASE + "output: |\n  first\n  x ${{ vars.n }} ${{ vars.m }}\n"
    (fault,) = wfe_language.validate(block)
    assert (fault.line, fault.column) == (11, 23)
    escaped = BASE + 'output: "a\\tb ${{ vars.\\x6d }}"\n'
    (fault,) = wfe_language.validate(escaped)
    assert (fault.line, fault.column) == (9, 9)


def test_a_reference_needs_an_ancestor_not_a_step_above():
    above = step('id: b, needs: [], set: {x: "${{ steps.a.status }}"}')
    assert "may not have ended" in wfe_language.validate(above)[0].reason
    far = BASE + "  - {id: b, set: {x: 1}}\n" + '  - {id: c, set: {x: "${{ steps.a.status }}"}}\n'
    assert wfe_language.validate(far) == []
    below = BASE.replace("- id: a\n", "- id: a\n    needs: [z]\n") + "  - {id: z, needs: [], set: {x: 1}}\n"
    assert wfe_language.validate(below.replace("echo}", 'echo, input: "${{ steps.z.output }}"}')) == []


@pytest.mark.parametrize(
    "text",
    [
        'id: b, http: {url: "https://x.y/${{ vars.token }}", headers: {A: "Bearer ${{ vars.token }}"}}',
        'id: b, http: {url: "https://x.y", query: {k: "${{vars.token}}"}, json: ["${{ vars[\'token\'] }}"]}',
        'id: b, call: {handler: echo, input: {deep: [{t: "${{ vars.token }}"}]}}',
    ],
)
def test_sensitive_values_may_stand_in_the_params_of_work(text):
    assert wfe_language.validate(step(text)) == []
    node = wfe_language.compile(step(text)).root.nodes[1]
    assert node.sealed
    after = wfe_language.compile(step(text) + "  - {id: c, call: {handler: echo}}\n").root.nodes
    assert [node.sealed for node in after] == [False, True, False]


@pytest.mark.parametrize(
    "expression",
    [
        "vars . token == 'x'",
        "vars\n.token + ''",
        "vars // comment\n.token",
        "(vars).token",
        "vars[('token')]",
        "vars['to' + 'ken']",
        "[vars][0].token",
        ".vars.token",
        "{'a': vars}.a.token",
        "['x'].all(vars, true) && vars.token == 'a'",
        "[1].map(item, vars.token)",
        "has(vars.token)",
        "size(vars)",
        "vars",
        "vars.token.size()",
        "'}}' + vars.token",
        '"""""" + vars.token + """"""',
        "r'\\d' + vars.token",
        "true ? vars.token : 1",
    ],
)
@pytest.mark.parametrize("place", ["call: {handler: echo, input: %s}", "set: {x: %s}", "wait: {until: %s}"])
def test_sensitive_values_do_not_get_out_by_tricks(expression, place):
    import json

    quoted = json.dumps("${{ " + expression + " }}")
    reasons = " ".join(f.reason for f in wfe_language.validate(step(f"id: b, {place % quoted}")))
    assert "sensitive variable token" in reasons


def test_approval_may_expire_into_approve():
    text = "id: b, approval: {title: x, approvers: {users: [u]}, expires: {after: 1h, then: approve}}"
    assert wfe_language.validate(step(text)) == []


def test_200_steps_are_checked_in_time():
    source = chain(200)
    wfe_language.validate(chain(2))
    spent = []
    for _ in range(7):
        began = time.process_time()
        assert wfe_language.validate(source) == []
        spent.append(time.process_time() - began)
    assert min(spent) < 0.05
