"""What changed between two templates is found where it is, and what breaks callers is called so."""

from __future__ import annotations

import pytest
import wfe_language
from wfe_language import compare

BASE = """\
name: t
timeout: 1h
variables:
  n: {type: integer, minimum: 1, maximum: 9, default: 2}
  tone: {type: string, enum: [plain, formal], required: true}
steps:
  - {id: a, call: {handler: echo, input: {list: [1, "${{ vars.n }}"], text: "n is ${{ vars.n }}", x-y: 1}}}
  - {id: b, if: "${{ vars.n > 1 }}", wait: {for: 1s}}
  - id: c
    try:
      steps: [{id: d, set: {x: 1}}]
      catch: {codes: [A], steps: [{id: e, set: {x: 2}}]}
  - {id: l, loop: {until: "${{ index > 1 }}", max: 3, steps: [{id: m, set: {x: 1}}]}}
output: {total: "${{ vars.n }}", tone: "${{ vars.tone }}"}
"""


REFUSED = "  BREAKING: values that were taken may be refused"


def changes(old: str, new: str) -> list[str]:
    assert BASE.count(old) >= 1
    found = compare(wfe_language.compile(BASE), wfe_language.compile(BASE.replace(old, new)))
    return [str(change) for change in found]


def test_the_same_is_no_change():
    assert compare(wfe_language.compile(BASE), wfe_language.compile(BASE.replace("timeout: 1h", "timeout: 60m"))) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: t\n", "name: u\n", ['~ name: "t" -> "u"  BREAKING: starts name the template']),
        ("timeout: 1h", "timeout: 2h", ["~ timeout: 3600.0 -> 7200.0"]),
        ("minimum: 1", "minimum: 0", ["~ variables.n.minimum: 1 -> 0"]),
        ("minimum: 1", "minimum: 2", ["~ variables.n.minimum: 1 -> 2" + REFUSED]),
        ("maximum: 9, ", "", ["- variables.n.maximum"]),
        ("maximum: 9", "maximum: 8", ["~ variables.n.maximum: 9 -> 8" + REFUSED]),
        ("type: integer", "type: number", ['~ variables.n.type: "integer" -> "number"']),
        ("formal]", "formal, rude]", ['~ variables.tone.enum: ["plain","formal"] -> ["plain","formal","rude"]']),
        (
            "[plain, formal]", "[formal, rude]",
            ['~ variables.tone.enum: ["plain","formal"] -> ["formal","rude"]' + REFUSED],
        ),
        ("default: 2", "default: 3", ["~ variables.n.default: 2 -> 3"]),
        (", default: 2", "", ["~ variables.n.default: 2 -> null  BREAKING: it is null when not given"]),
        (", required: true", "", ["~ variables.tone.required: true -> false"]),
        (
            "default: 2}", "default: 2}\n  must: {type: string, required: true}\n  may: {type: string}",
            ["+ variables.must  BREAKING: starts without it are refused", "+ variables.may"],
        ),
        ("enum: [plain, formal], required: true}", "enum: [plain, formal], required: true, pattern: a}",
         ["+ variables.tone.pattern" + REFUSED]),
        ("[1, ", "[2, ", ['~ steps.a.params.input.list: [1,"${{ vars.n }}"] -> [2,"${{ vars.n }}"]']),
        ("n is", "n =", ['~ steps.a.params.input.text: "n is ${{ vars.n }}" -> "n = ${{ vars.n }}"']),
        ("x-y: 1", "x-z: 1", ['- steps.a.params.input["x-y"]', '+ steps.a.params.input["x-z"]']),
        ("handler: echo", "handler: other", ['~ steps.a.params.handler: "echo" -> "other"']),
        ("vars.n > 1", "vars.n > 2", ['~ steps.b.if: "${{ vars.n > 1 }}" -> "${{ vars.n > 2 }}"']),
        ("wait: {for: 1s}", "set: {x: 1}", ['~ steps.b.kind: "wait" -> "set"']),
        ("- {id: b, if", "- {id: b, needs: [], if", ['~ steps.b.needs: ["a"] -> []']),
        ("x-y: 1}}}", "x-y: 1}}, retry: {max_attempts: 9}, queue: q, timeout: 5s}",
         ["~ steps.a.retry.max_attempts: 3 -> 9", "+ steps.a.timeout.attempt", '~ steps.a.queue: "default" -> "q"']),
        ("codes: [A]", "codes: [A, B]", ['~ steps.c.catch.codes: ["A"] -> ["A","B"]']),
        ("{id: d, set: {x: 1}}", "{id: f, set: {x: 1}}", ["- steps.c/body/d", "+ steps.c/body/f"]),
        ("index > 1", "index > 0", ['~ steps.l.until.if: "${{ index > 1 }}" -> "${{ index > 0 }}"']),
        ("x-y: 1}}}", "x-y: 1}}, compensate: {call: {handler: undo}}}", ["+ steps.a.compensate"]),
        ("timeout: 1h", "timeout: 1h\ncompensate: [cancel]",
         ['~ compensate: ["cancel","failure","rollback"] -> ["cancel"]']),
        ("max: 3", "max: 4", ["~ steps.l.params.max: 3 -> 4"]),
        (', tone: "${{ vars.tone }}"', "", ["- output.tone  BREAKING: who reads it finds it no more"]),
        ("output: {", "output: {more: 1, ", ["+ output.more"]),
    ],
)  # fmt: skip
def test_a_change_is_found_where_it_is(old, new, said):
    assert changes(old, new) == said


def test_another_shape_of_output_is_breaking():
    whole = BASE.partition("output:")[0]
    old, none, text = (wfe_language.compile(source) for source in (BASE, whole, whole + 'output: "${{ vars.n }}"\n'))
    assert [change.breaking for change in compare(old, text)] == [True]
    assert [change.breaking for change in compare(none, text)] == [False]
