"""Templates become the plans the engine runs."""

from __future__ import annotations

import msgspec
import pytest
import wfe_language
from samples import BASE, step
from wfe_engine import plan
from wfe_language.expressions.scan import parse_path, references, split


def compiled(text: str) -> plan.Node:
    return wfe_language.compile(step(text)).root.nodes[-1]


def rendered(expression: plan.Expression) -> object:
    """The expression with its parts in short: paths as <p>, CEL as <c>."""
    match expression:
        case plan.Literal(value):
            return value
        case plan.Path(source=source):
            return f"<{source}>"
        case plan.Cel(source, roots):
            return f"<{source} {roots}>"
        case plan.Text(parts):
            return ("text", *[part if isinstance(part, str) else rendered(part) for part in parts])
        case plan.ListOf(items):
            return [rendered(item) for item in items]
        case plan.MapOf(items):
            return {key: rendered(item) for key, item in items}


@pytest.mark.parametrize(
    ("text", "params"),
    [
        (
            'id: b, http: {method: post, url: "https://x.y/${{ vars.n }}", json: {a: ["${{ vars.n }}", 1]}}',
            {"method": "POST", "url": ("text", "https://x.y/", "<vars.n>"), "json": {"a": ["<vars.n>", 1]}},
        ),
        (
            'id: b, http: {url: "${{ steps.a.output.url }}", expect: 2xx, max_bytes: 10, body: "", headers: {A: b}}',
            {
                "method": "GET", "url": ("text", "<steps.a.output.url>"), "headers": {"A": "b"}, "body": "",
                "expect": ["2xx"], "max_bytes": 10,
            },
        ),
        ("id: b, call: {handler: echo}", {"handler": "echo", "input": {}}),
        ("id: b, wait: {for: 1h30m}", {"for": 5400.0}),
        ('id: b, wait: {for: "${{ vars.n * 2 }}"}', {"for": "<vars.n * 2 (('vars', 'n'),)>"}),
        ("id: b, wait: {until: 2030-01-01T00:00:00+02:00}", {"until": "2030-01-01T00:00:00+02:00"}),
        ('id: b, wait: {until: "${{ steps.a.output.at }}"}', {"until": "<steps.a.output.at>"}),
        ("id: b, set: {x: [1, {y: null}]}", {"x": [1, {"y": None}]}),
        ("id: b, checkpoint: before", {"name": "before"}),
        ("id: b, checkpoint: {name: before}", {"name": "before"}),
        (
            'id: b, approval: {title: "Go ${{ vars.n }}?", approvers: {groups: [g], users: ["${{ run.created_by }}"]}}',
            {
                "title": ("text", "Go ", "<vars.n>", "?"), "body": "", "payload": None,
                "policy": {
                    "blocks": [{
                        "users": [("text", "<run.created_by>")], "groups": ["g"], "roles": [], "count": 1,
                    }],
                    "exclude": ["run_starter"],
                    "reject": {"count": 1, "outcomes": ["fail"], "reason": "optional", "options": []},
                    "revise": None, "form": None, "escalate": [], "delegation": "eligible", "bypass": True,
                },
                "expires_after": None, "on_expiry": "reject", "branch": "", "opens_after": None, "agenda": [],
                "risk": "medium",
            },
        ),
        (
            ("id: b, approval: {title: t, body: md, payload: {a: 1}, risk: high, opens_after: 1m, remind: [50%, 4h],"
            " policy: [{from: {role: admin}, count: 2}, {from: {group: g}}], exclude: [previous_approvers],"
            " reject: {count: 2, outcomes: [fail, branch:manual, revise], reason: required, options: [dear]},"
            " revise: {max_rounds: 2}, form: {editable: [/a], limits: {/a: <= original}}, delegation: anyone,"
            " escalate: [{after: 1d, add: {group: h}}], bypass: false, expires: {after: 2d, then: branch:late}}"),
            {
                "title": "t", "body": "md", "payload": {"a": 1},
                "policy": {
                    "blocks": [
                        {"users": [], "groups": [], "roles": ["admin"], "count": 2},
                        {"users": [], "groups": ["g"], "roles": [], "count": 1},
                    ],
                    "exclude": ["previous_approvers"],
                    "reject": {
                        "count": 2, "outcomes": ["fail", "branch:manual", "revise"], "reason": "required",
                        "options": ["dear"],
                    },
                    "revise": {"step": "a", "max_rounds": 2},
                    "form": {"editable": ["/a"], "limits": {"/a": "<= original"}},
                    "escalate": [{"add": {"users": [], "groups": ["h"], "roles": []}}],
                    "delegation": "anyone", "bypass": False,
                },
                "expires_after": 172800.0, "on_expiry": "branch", "branch": "late", "opens_after": 60.0,
                "agenda": [[86400.0, "remind", "50%"], [14400.0, "remind", "4h"], [86400.0, "escalate", 0],
                           [155520.0, "expire", 0]],
                "risk": "high",
            },
        ),
    ],
)  # fmt: skip
def test_params_of_each_kind(text, params):
    assert rendered(compiled(text).params) == params


def test_order_of_steps():
    source = """\
name: t
timeout: 2h
priority: -5
steps:
  - {id: a, call: {handler: echo}}
  - {id: b, call: {handler: echo}}
  - {id: c, needs: [], call: {handler: echo}}
  - {id: d, needs: [c, a], call: {handler: echo}}
  - {id: e, if: "${{ steps.a.status == 'completed' }}", call: {handler: echo}}
output: "${{ steps.e.output }}"
"""
    made = wfe_language.compile(source)
    assert [(n.id, n.index, n.path, n.needs, n.dependents) for n in made.root.nodes] == [
        ("a", 0, "a", (), (1, 3)), ("b", 1, "b", (0,), ()), ("c", 2, "c", (), (3,)),
        ("d", 3, "d", (0, 2), (4,)), ("e", 4, "e", (3,), ()),
    ]  # fmt: skip
    assert made.root.roots == (0, 2)
    assert made.root.nodes[4].condition == plan.Cel("steps.a.status == 'completed'", (("steps", "a"),))
    assert made.output == plan.Path("steps", ("e", "output"), "steps.e.output")
    assert (made.total, made.priority, made.name) == (7200.0, -5, "t")


def test_defaults_are_merged_key_by_key_and_only_into_work():
    source = """\
name: t
defaults: {timeout: {attempt: 30s, total: 1h}, queue: big, retry: {max_attempts: 5, on: [HTTP_503]}}
steps:
  - {id: a, call: {handler: echo}}
  - {id: b, timeout: 5m, retry: {initial: 2m, never: [X]}, queue: small, call: {handler: echo}}
  - {id: c, timeout: {heartbeat: 5s, queue: 1m}, http: {url: "https://x.y"}}
  - {id: d, wait: {for: 1s}}
"""
    a, b, c, d = wfe_language.compile(source).root.nodes
    assert a.clocks == plan.Clocks(attempt=30.0, total=3600.0)
    assert a.retry == plan.Retry(max_attempts=5, on=("HTTP_503",))
    assert a.queue == "big"
    assert b.clocks == plan.Clocks(attempt=300.0, total=3600.0)
    assert b.retry == plan.Retry(max_attempts=5, initial=120.0, max=120.0, on=("HTTP_503",), never=("X",))
    assert b.queue == "small"
    assert c.clocks == plan.Clocks(attempt=30.0, total=3600.0, heartbeat=5.0, queue=60.0)
    assert (d.clocks, d.retry, d.queue) == (plan.Clocks(), plan.Retry(), "default")


def test_variables():
    source = (
        "name: t\nvariables:\n  a: {type: string, format: uri, required: true, description: x}\n"
        "  b: {schema: {type: object, required: [k]}, default: {k: 1}}\n  c: {sensitive: true}\n"
        "  d: {type: [string, 'null'], default: null}\nsteps: [{id: a, checkpoint: x}]"
    )
    assert wfe_language.compile(source).variables == (
        plan.Variable("a", {"type": "string", "format": "uri"}, required=True),
        plan.Variable("b", {"type": "object", "required": ["k"]}, default={"k": 1}),
        plan.Variable("c", {}, sensitive=True),
        plan.Variable("d", {"type": ["string", "null"]}, default=None),
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("$${{ vars.n }}", "${{ vars.n }}"),
        ("$$$${{ x }} $", "$$$${{ x }} $".replace("$${{", "${{")),
        ("a $${{ b }} ${{ vars.n }}", ("text", "a ${{ b }} ", "<vars.n>")),
        ("${{ vars.n }}", "<vars.n>"),
        ("${{vars.n}}", "<vars.n>"),
        (" ${{ vars.n }}", ("text", " ", "<vars.n>")),
        ("${{ vars.n }}${{ vars.n }}", ("text", "<vars.n>", "<vars.n>")),
        ("${{ {'a': {'b': vars.n}} }}", "<{'a': {'b': vars.n}} (('vars', 'n'),)>"),
        ("${{ '}}' + string(vars.n) }}!", ("text", "<'}}' + string(vars.n) (('vars', 'n'),)>", "!")),
        ("${{ steps.a.output.items[0]['a b'].in }}", "<steps.a.output.items[0]['a b'].in>"),
        ("{{ vars.n }} $ {{ }} }}", "{{ vars.n }} $ {{ }} }}"),
    ],
)
def test_text_and_expressions(text, value):
    import json

    assert rendered(wfe_language.compile(BASE + f"output: {json.dumps(text)}").output) == value


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("vars.x", ("x",)),
        ("steps.a.output.items[0].name", ("a", "output", "items", 0, "name")),
        ("vars['a b'][\"c\"] . d [ 12 ]", ("a b", "c", "d", 12)),
        ("run.labels['team']", ("labels", "team")),
    ],
)
def test_plain_paths(source, parts):
    assert parse_path(source).parts == parts


@pytest.mark.parametrize(
    "source", ["vars.x + 1", "vars.x()", "vars[-1]", "vars[x]", "vars.", "foo.x", "vars['a\\'b']", "vars.x == 1", "1"]
)
def test_other_expressions_are_not_paths(source):
    assert parse_path(source) is None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("vars.a + steps.b.output.c", [("vars", "a"), ("steps", "b")]),
        ("{'vars': run.id}", [("run", "id")]),
        ("steps.a.output.vars.b", [("steps", "a")]),
        ("'vars.a' + vars['b'] // vars.c", [("vars", "b")]),
        ("vars.l.map(item, item.x)", [("vars", "l")]),
        ("vars.x.size() + size(vars)", [("vars", "x"), ("vars", "")]),
        ("variables.x || xvars.y || vars_", []),
    ],
)
def test_roots_of_expressions(source, found):
    assert [(ref.root, ref.parts[0] if ref.parts else "") for ref in references(source)] == found


def test_split_of_nothing():
    assert split("") == []


def test_compiling_is_deterministic_and_plans_travel():
    source = step('id: b, call: {handler: echo, input: {x: "${{ vars.n + 1 }}", y: ["${{ vars.flag }}"]}}')
    first, second = wfe_language.compile(source), wfe_language.compile(source.encode())
    assert first == second
    assert msgspec.msgpack.encode(first) == msgspec.msgpack.encode(second)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=plan.Plan) == first
