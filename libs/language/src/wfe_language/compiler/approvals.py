"""Reads `approval`: the whole policy is in the grammar, what does not run yet is refused with the reason."""

from __future__ import annotations

from typing import Any

from wfe_engine import plan

from wfe_language.compiler.reading import Missing, Reading
from wfe_language.compiler.values import Scope, Values, list_of, map_of
from wfe_language.faults import Where

_KEYS = (
    "title", "body", "payload", "approvers", "policy", "exclude", "expires",
    "reject", "revise", "form", "opens_after", "remind", "escalate", "risk",
)  # fmt: skip
_LATER = {
    "revise": "rounds of revision",
    "form": "forms and edits of the payload",
    "opens_after": "gates that open later",
    "remind": "reminders",
    "escalate": "escalation",
    "risk": "risk classes",
}
_EXCLUDED = ("run_starter", "previous_approvers", "template_publisher")
_WHO = ("users", "groups", "roles")
_APPROVERS_MEND = "Write it like {groups: [editors]}."


def read_approval(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of an approval: title, body, payload, policy, expires_after, on_expiry."""
    scope = scope.at("in an approval")
    given = reading.object(
        value, where, _KEYS, required=("title",), mend="Write {title: ..., approvers: {groups: [...]}}."
    )
    for key, what in _LATER.items():
        if key in given:
            reading.key_fault((*where, key), f"This version does not have {what} yet.", f"Remove {key}.")
    if "reject" in given:
        _check_reject(reading, given["reject"], (*where, "reject"))
    title = values.text(given.get("title", "-"), (*where, "title"), scope, "Say what is to be decided.")
    body = (
        values.text(given["body"], (*where, "body"), scope, "Remove it or give it text.") if "body" in given else None
    )
    after, then = _expires(reading, given, where)
    return map_of(
        {
            "title": title,
            "body": body or plan.Literal(""),
            "payload": values.value(given.get("payload"), (*where, "payload"), scope),
            "policy": _policy(reading, values, given, where, scope),
            "expires_after": plan.Literal(after),
            "on_expiry": plan.Literal(then),
        }
    )


def _policy(reading: Reading, values: Values, given: dict[str, Any], where: Where, scope: Scope) -> plan.Expression:
    who: dict[str, plan.Expression] = {kind: plan.Literal([]) for kind in _WHO}
    if "policy" in given and "approvers" in given:
        reading.key_fault(
            (*where, "approvers"), "approvers stands beside policy.", "Keep one; approvers is the short form."
        )
    elif "policy" in given:
        who |= _blocks(reading, values, given["policy"], (*where, "policy"), scope)
    elif "approvers" in given:
        who |= _approvers(reading, values, given["approvers"], (*where, "approvers"), scope)
    else:
        reading.key_fault(where, "It is not said who may decide.", "Add approvers: {groups: [editors]}.")
    return map_of({**who, "exclude_starter": plan.Literal(_exclude_starter(reading, given, where))})


def _approvers(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> dict[str, plan.Expression]:
    given = reading.object(value, where, _WHO, mend=_APPROVERS_MEND)
    if isinstance(value, dict) and not any(given.get(kind) for kind in _WHO) and set(given) <= set(_WHO):
        reading.fault(where, "Nobody may decide.", "Name at least one of users, groups and roles.")
    found: dict[str, plan.Expression] = {}
    for kind in _WHO:
        if kind in given:
            inner = (*where, kind)
            listed = reading.list(given[kind], inner, f"Write a list: {kind}: [editors].")
            found[kind] = list_of(
                [values.text(v, (*inner, at), scope, "Name them as text.") for at, v in enumerate(listed)]
            )
    return found


def _blocks(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> dict[str, plan.Expression]:
    """The long form: blocks that all must be met. One block that wants one decision is what runs today."""
    blocks = reading.list(value, where, "Write a list of blocks: [{from: {group: finance}, count: 1}].")
    if isinstance(value, list) and not value:
        reading.fault(where, "Nobody may decide.", "Add a block: {from: {group: finance}}.")
    if len(blocks) > 1:
        reading.fault((*where, 1), "This version does not have several blocks yet.", "Keep one block.")
    found: dict[str, plan.Expression] = {}
    for at, block in enumerate(blocks):
        inner = (*where, at)
        given = reading.object(block, inner, ("from", "count"), required=("from",))
        count = reading.optional(given, inner, "count", lambda v, w: reading.integer(v, w, 1, 100))
        if not isinstance(count, Missing) and count > 1:
            reading.fault((*inner, "count"), "This version does not count several approvals yet.", "Use count: 1.")
        if "from" in given:
            source = reading.object(given["from"], (*inner, "from"), ("user", "group", "role"))
            if isinstance(given["from"], dict) and len(source) != 1:
                reading.fault(
                    (*inner, "from"),
                    "A block names exactly one of user, group and role.",
                    "Keep one of them.",
                )
            for kind in ("user", "group", "role"):
                if kind in source:
                    who = values.text(source[kind], (*inner, "from", kind), scope, "Name it as text.")
                    found[f"{kind}s"] = list_of([who])
    return found


def _exclude_starter(reading: Reading, given: dict[str, Any], where: Where) -> bool:
    if "exclude" not in given:
        return True
    inner = (*where, "exclude")
    listed = reading.list(given["exclude"], inner, "Write a list: [run_starter], or [] so that nobody is excluded.")
    for at, word in enumerate(listed):
        if not isinstance(reading.choice(word, (*inner, at), _EXCLUDED), Missing) and word != "run_starter":
            reading.fault((*inner, at), f"This version does not exclude {word} yet.", "Remove it.")
    return "run_starter" in listed


def _check_reject(reading: Reading, value: Any, where: Where) -> None:
    given = reading.object(value, where, ("count", "outcomes", "reason", "options"))
    if "count" in given and reading.integer(given["count"], (*where, "count"), 1, 100) not in (1,):
        reading.fault((*where, "count"), "This version ends a gate at the first rejection.", "Use count: 1.")
    if "outcomes" in given and given["outcomes"] != ["fail"]:
        reading.fault((*where, "outcomes"), "This version only fails the run at a rejection.", "Use outcomes: [fail].")
    if "reason" in given and given["reason"] != "optional":
        reading.fault((*where, "reason"), "This version does not ask for a reason yet.", "Use reason: optional.")
    if "options" in given:
        reading.key_fault((*where, "options"), "This version has no list of reasons yet.", "Remove options.")


def _expires(reading: Reading, given: dict[str, Any], where: Where) -> tuple[float | None, str]:
    """Seconds after which the gate expires, or None, and what happens then."""
    if "expires" not in given:
        return None, "reject"
    inner = (*where, "expires")
    expires = reading.object(
        given["expires"],
        inner,
        ("after", "then"),
        required=("after",),
        mend="Write {after: 24h, then: reject}.",
    )
    after = reading.optional(expires, inner, "after", reading.span)
    then = reading.optional(
        expires, inner, "then", lambda v, w: reading.choice(v, w, ("reject", "fail", "approve", "branch"))
    )
    if then == "branch":
        reading.fault((*inner, "then"), "This version has no branches at expiry yet.", "Use reject, fail or approve.")
    return (None if isinstance(after, Missing) else after), ("reject" if isinstance(then, Missing) else then)
