"""What changed between two versions of a template, and whether it breaks those who start runs or read their output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from wfe_engine import plan

#: Words of JSON Schema that allow less the larger, or the smaller, they are.
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_NOTES = ("description", "examples", "title", "default")


class Change(msgspec.Struct, frozen=True):
    """One difference.

    Attributes:
        path: Of what changed: `variables.tone.enum`, `steps.fetch.params.url`, `output.status`, `name`.
        change: added, removed or changed.
        breaking: Who starts runs as before, or reads what they give, may be surprised.
        old, new: What it was and is; null where there is none.
        why: Of a breaking change, one sentence; empty otherwise.
    """

    path: str
    change: str
    breaking: bool = False
    old: Any = None
    new: Any = None
    why: str = ""

    def __str__(self) -> str:
        sign = {"added": "+", "removed": "-", "changed": "~"}[self.change]
        values = f": {_shown(self.old)} -> {_shown(self.new)}" if self.change == "changed" else ""
        return f"{sign} {self.path}{values}{f'  BREAKING: {self.why}' if self.breaking else ''}"


def compare(old: plan.Plan, new: plan.Plan) -> list[Change]:
    """Everything that is different: the name, variables, steps in the order of the text, the output, the rest."""
    changes: list[Change] = []
    if old.name != new.name:
        changes.append(_changed("name", old.name, new.name, "starts name the template"))
    changes += _variables({v.name: v for v in old.variables}, {v.name: v for v in new.variables})
    changes += _steps(dict(_nodes(old.root)), dict(_nodes(new.root)))
    changes += _output(old.output, new.output)
    if old.compensate_on != new.compensate_on:
        changes.append(_changed("compensate", sorted(old.compensate_on), sorted(new.compensate_on)))
    for key in ("total", "priority"):
        if getattr(old, key) != getattr(new, key):
            changes.append(_changed("timeout" if key == "total" else key, getattr(old, key), getattr(new, key)))
    return changes


def _changed(path: str, old: Any, new: Any, why: str = "") -> Change:
    return Change(path, "changed", bool(why), old, new, why)


# ---- variables


def _variables(old: dict[str, plan.Variable], new: dict[str, plan.Variable]) -> Iterator[Change]:
    for name in [*old, *(name for name in new if name not in old)]:
        path, was, now = f"variables.{name}", old.get(name), new.get(name)
        if now is None:
            yield Change(path, "removed", True, _declared(was), None, "starts that give it are refused")
        elif was is None:
            why = "starts without it are refused" if now.required else ""
            yield Change(path, "added", now.required, None, _declared(now), why)
        else:
            yield from _variable(path, was, now)


def _declared(variable: plan.Variable | None) -> Any:
    if variable is None:
        return None
    more = {"required": True} if variable.required else {}
    return variable.schema | more | ({} if variable.default is msgspec.UNSET else {"default": variable.default})


def _variable(path: str, old: plan.Variable, new: plan.Variable) -> Iterator[Change]:
    if old.required != new.required:
        why = "starts without it are refused" if new.required else ""
        yield _changed(f"{path}.required", old.required, new.required, why)
    if old.default != new.default:
        was, now = (None if d is msgspec.UNSET else d for d in (old.default, new.default))
        gone = new.default is msgspec.UNSET and not new.required
        yield _changed(f"{path}.default", was, now, "it is null when not given" if gone else "")
    if old.sensitive != new.sensitive:
        yield _changed(f"{path}.sensitive", old.sensitive, new.sensitive)
    yield from _schema(path, old.schema, new.schema)


def _schema(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        if was == now and (key in old) == (key in new):
            continue
        why = "" if key in _NOTES or _wider(key, old, new) else "values that were taken may be refused"
        change = "changed" if key in old and key in new else "removed" if key in old else "added"
        yield Change(f"{path}.{key}", change, bool(why), was, now, why)


def _wider(key: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a schema allows at least what it did, as far as one of its words is concerned."""
    if key not in new:
        return True
    if key not in old:
        return False
    was, now = old[key], new[key]
    if key in _LEAST:
        return bool(now <= was)
    if key in _MOST:
        return bool(now >= was)
    if key == "enum":
        return all(item in now for item in was)
    if key == "type":
        wide = {*(now if isinstance(now, list) else [now])}
        wide |= {"integer"} if "number" in wide else set()
        return {*(was if isinstance(was, list) else [was])} <= wide
    return False


# ---- steps


def _nodes(block: plan.Block) -> Iterator[tuple[str, tuple[plan.Node, plan.Block]]]:
    for node in block.nodes:
        yield node.path, (node, block)
        for inner in node.blocks:
            yield from _nodes(inner)


def _steps(
    old: dict[str, tuple[plan.Node, plan.Block]], new: dict[str, tuple[plan.Node, plan.Block]]
) -> Iterator[Change]:
    for path in [*old, *(path for path in new if path not in old)]:
        where = f"steps.{path}"
        if path not in new:
            yield Change(where, "removed", old=old[path][0].kind)
        elif path not in old:
            yield Change(where, "added", new=new[path][0].kind)
        else:
            yield from _step(where, old[path], new[path])


def _step(where: str, old: tuple[plan.Node, plan.Block], new: tuple[plan.Node, plan.Block]) -> Iterator[Change]:
    was, now = old[0], new[0]
    if was.kind != now.kind:
        yield _changed(f"{where}.kind", was.kind, now.kind)
        return
    needed, needs = (sorted(block.nodes[at].id for at in node.needs) for node, block in (old, new))
    if needed != needs:
        yield _changed(f"{where}.needs", needed, needs)
    if was.condition != now.condition:
        yield _changed(f"{where}.if", written(was.condition), written(now.condition))
    yield from _values(f"{where}.params", written(was.params), written(now.params))
    for key, name in (("retry", "retry"), ("clocks", "timeout")):
        yield from _values(
            f"{where}.{name}", msgspec.to_builtins(getattr(was, key)), msgspec.to_builtins(getattr(now, key))
        )
    if was.queue != now.queue:
        yield _changed(f"{where}.queue", was.queue, now.queue)
    yield from _compensation(f"{where}.compensate", was.compensate, now.compensate)
    yield from _blocks(where, was, now)


def _compensation(where: str, old: plan.Node | None, new: plan.Node | None) -> Iterator[Change]:
    if old is None and new is not None:
        yield Change(where, "added", new=new.kind)
    elif old is not None and new is None:
        yield Change(where, "removed", old=old.kind)
    elif old is not None and new is not None:
        block = plan.Block((), ())
        yield from _step(where, (old, block), (new, block))


def _blocks(where: str, old: plan.Node, new: plan.Node) -> Iterator[Change]:
    """Conditions of cases and loops, and codes of catches; the steps of the blocks are compared as steps."""
    for was, now in zip(old.blocks, new.blocks, strict=False):
        name = f"{where}.{now.name or now.role}"
        if was.condition != now.condition:
            yield _changed(f"{name}.if", written(was.condition), written(now.condition))
        if was.codes != now.codes:
            yield _changed(f"{name}.codes", was.codes and list(was.codes), now.codes and list(now.codes))


# ---- values


def written(expression: plan.Expression | None) -> Any:
    """An expression as it is written in a template."""
    match expression:
        case None:
            return None
        case plan.Literal(value):
            return value
        case plan.Path(source=source) | plan.Cel(source=source):
            return f"${{{{ {source} }}}}"
        case plan.Text(parts):
            return "".join(part if isinstance(part, str) else str(written(part)) for part in parts)
        case plan.ListOf(items):
            return [written(item) for item in items]
        case plan.MapOf(items):
            return {key: written(item) for key, item in items}
    raise TypeError(type(expression).__name__)


def _values(path: str, old: Any, new: Any) -> Iterator[Change]:
    """Differences of two values, at the innermost keys that differ."""
    if old == new:
        return
    if not isinstance(old, dict) or not isinstance(new, dict):
        yield _changed(path, old, new)
        return
    for key in [*old, *(key for key in new if key not in old)]:
        inner = f"{path}.{key}" if re.fullmatch(r"[A-Za-z_]\w*", key) else f'{path}["{key}"]'
        if key not in new:
            yield Change(inner, "removed", old=old[key])
        elif key not in old:
            yield Change(inner, "added", new=new[key])
        else:
            yield from _values(inner, old[key], new[key])


def _output(old: plan.Expression | None, new: plan.Expression | None) -> Iterator[Change]:
    was, now = written(old), written(new)
    for change in _values("output", was, now):
        why = ""
        if change.change == "removed":
            why = "who reads it finds it no more"
        elif change.path == "output" and was is not None:
            why = "the output has another shape"
        yield msgspec.structs.replace(change, breaking=bool(why), why=why)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else text[:97] + "..."
