"""Reads `approval`: the question, and the policy of who decides it how. docs/approvals.md says what each key means."""

from __future__ import annotations

import re
from typing import Any

from wfe_engine import plan

from wfe_language.compiler.approval_forms import read_form
from wfe_language.compiler.reading import Missing, Reading
from wfe_language.compiler.values import Scope, Values, list_of, map_of
from wfe_language.faults import Where, choices

_KEYS = (
    "title", "body", "payload", "approvers", "policy", "exclude", "expires",
    "reject", "revise", "form", "opens_after", "remind", "escalate", "risk", "delegation", "bypass",
)  # fmt: skip
_EXCLUDED = ("run_starter", "previous_approvers", "template_publisher")
_WHO = ("users", "groups", "roles")
_ONE = {"user": "users", "group": "groups", "role": "roles"}
_APPROVERS_MEND = "Write it like {groups: [editors]}."
_BRANCH = re.compile(r"branch(:[a-z][a-z0-9_-]{0,62})?", re.ASCII)
_REASON = re.compile(r"[a-z][a-z0-9_-]{0,62}", re.ASCII)
_PERCENT = re.compile(r"([1-9]\d?)%")
#: Approvals a gate may need in all, and blocks they may be in.
MOST_COUNT, MOST_BLOCKS = 100, 20
MOST_ROUNDS, MOST_ENTRIES = 100, 20
#: A gate that waits so long tells when nine tenths of it have gone.
WARNED_FROM = 600.0


def read_approval(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    """Params of an approval; see `plan.CORE`."""
    scope = scope.at("in an approval")
    given = reading.object(
        value, where, _KEYS, required=("title",), mend="Write {title: ..., approvers: {groups: [...]}}."
    )
    title = values.text(given.get("title", "-"), (*where, "title"), scope, "Say what is to be decided.")
    body = (
        values.text(given["body"], (*where, "body"), scope, "Remove it or give it text.") if "body" in given else None
    )
    after, then, branch = _expires(reading, given, where)
    opens = reading.optional(given, where, "opens_after", reading.span)
    risk = reading.optional(given, where, "risk", lambda v, w: reading.choice(v, w, ("low", "medium", "high")))
    escalate, steps = _escalate(reading, values, given, where, scope)
    agenda = [*_remind(reading, given, where, after), *steps]
    if after is not None and after >= WARNED_FROM:
        agenda.append([after * 0.9, "expire", 0])
    return map_of(
        {
            "title": title,
            "body": body or plan.Literal(""),
            "payload": values.value(given.get("payload"), (*where, "payload"), scope),
            "policy": _policy(reading, values, given, where, scope, escalate),
            "expires_after": plan.Literal(after),
            "on_expiry": plan.Literal(then),
            "branch": plan.Literal(branch),
            "opens_after": plan.Literal(None if isinstance(opens, Missing) else opens),
            "agenda": plan.Literal(agenda),
            "risk": plan.Literal("medium" if isinstance(risk, Missing) else risk),
        }
    )


def _policy(
    reading: Reading, values: Values, given: dict[str, Any], where: Where, scope: Scope, escalate: plan.Expression
) -> plan.Expression:
    blocks: list[plan.Expression] = []
    if "policy" in given and "approvers" in given:
        reading.key_fault(
            (*where, "approvers"), "approvers stands beside policy.", "Keep one; approvers is the short form."
        )
    elif "policy" in given:
        blocks = _blocks(reading, values, given["policy"], (*where, "policy"), scope)
    elif "approvers" in given:
        blocks = [_approvers(reading, values, given["approvers"], (*where, "approvers"), scope)]
    else:
        reading.key_fault(where, "It is not said who may decide.", "Add approvers: {groups: [editors]}.")
    delegation = reading.optional(
        given, where, "delegation", lambda v, w: reading.choice(v, w, ("eligible", "anyone"))
    )  # fmt: skip
    bypass = reading.optional(given, where, "bypass", reading.boolean)
    revise = _revise(reading, given, where, scope)
    return map_of(
        {
            "blocks": list_of(blocks),
            "exclude": plan.Literal(_exclude(reading, given, where)),
            "reject": plan.Literal(_reject(reading, given, where, revise is not None)),
            "revise": plan.Literal(revise),
            "form": plan.Literal(read_form(reading, given["form"], (*where, "form")) if "form" in given else None),
            "escalate": escalate,
            "delegation": plan.Literal("eligible" if isinstance(delegation, Missing) else delegation),
            "bypass": plan.Literal(True if isinstance(bypass, Missing) else bypass),
        }
    )


def _approvers(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> plan.Expression:
    given = reading.object(value, where, _WHO, mend=_APPROVERS_MEND)
    if isinstance(value, dict) and not any(given.get(kind) for kind in _WHO) and set(given) <= set(_WHO):
        reading.fault(where, "Nobody may decide.", "Name at least one of users, groups and roles.")
    found: dict[str, plan.Expression] = {kind: plan.Literal([]) for kind in _WHO}
    for kind in _WHO:
        if kind in given:
            inner = (*where, kind)
            listed = reading.list(given[kind], inner, f"Write a list: {kind}: [editors].")
            found[kind] = list_of(
                [values.text(v, (*inner, at), scope, "Name them as text.") for at, v in enumerate(listed)]
            )
    return map_of({**found, "count": plan.Literal(1)})


def _blocks(reading: Reading, values: Values, value: Any, where: Where, scope: Scope) -> list[plan.Expression]:
    """The long form: blocks that all must be met."""
    blocks = reading.list(value, where, "Write a list of blocks: [{from: {group: finance}, count: 1}].")
    if isinstance(value, list) and not 1 <= len(value) <= MOST_BLOCKS:
        reason = "Nobody may decide." if not value else f"There are {len(value)} blocks."
        reading.fault(where, reason, "Add a block: {from: {group: finance}}." if not value else f"Use {MOST_BLOCKS}.")
    found, need = [], 0
    for at, block in enumerate(blocks):
        inner = (*where, at)
        given = reading.object(block, inner, ("from", "count"), required=("from",))
        count = reading.optional(given, inner, "count", lambda v, w: reading.integer(v, w, 1, MOST_COUNT))
        need += 1 if isinstance(count, Missing) else count
        who = _from(reading, values, given["from"], (*inner, "from"), scope) if "from" in given else {}
        found.append(map_of({**who, "count": plan.Literal(1 if isinstance(count, Missing) else count)}))
    if need > MOST_COUNT:
        reading.fault(where, f"It needs {need} approvals in all.", f"Use {MOST_COUNT} at most.")
    return found


def _from(
    reading: Reading, values: Values, value: Any, where: Where, scope: Scope
) -> dict[str, plan.Expression]:  # fmt: skip
    source = reading.object(value, where, tuple(_ONE), mend="Write {group: finance}.")
    if isinstance(value, dict) and len(source) != 1:
        reading.fault(where, "A block names exactly one of user, group and role.", "Keep one of them.")
    found: dict[str, plan.Expression] = {kind: plan.Literal([]) for kind in _WHO}
    for one, kind in _ONE.items():
        if one in source:
            found[kind] = list_of([values.text(source[one], (*where, one), scope, "Name it as text.")])
    return found


def _exclude(reading: Reading, given: dict[str, Any], where: Where) -> list[str]:
    if "exclude" not in given:
        return ["run_starter"]
    inner = (*where, "exclude")
    listed = reading.list(given["exclude"], inner, "Write a list: [run_starter], or [] so that nobody is excluded.")
    words = [reading.choice(word, (*inner, at), _EXCLUDED) for at, word in enumerate(listed)]
    return [word for word in words if isinstance(word, str)]


def _reject(reading: Reading, given: dict[str, Any], where: Where, revise: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"count": 1, "outcomes": ["fail"], "reason": "optional", "options": []}
    if "reject" not in given:
        return found
    where = (*where, "reject")
    value = reading.object(given["reject"], where, ("count", "outcomes", "reason", "options"))
    count = reading.optional(value, where, "count", lambda v, w: reading.integer(v, w, 1, MOST_COUNT))
    found["count"] = 1 if isinstance(count, Missing) else count
    reason = reading.optional(value, where, "reason", lambda v, w: reading.choice(v, w, ("required", "optional")))
    found["reason"] = "optional" if isinstance(reason, Missing) else reason
    if "outcomes" in value:
        inner = (*where, "outcomes")
        mend = "Write a list of fail, branch:NAME and revise: [fail, branch:manual]."
        found["outcomes"] = reading.list(value["outcomes"], inner, mend)
        if value["outcomes"] == []:
            reading.fault(inner, "A rejection means nothing.", mend)
        for at, outcome in enumerate(found["outcomes"]):
            known = isinstance(outcome, str) and (outcome in ("fail", "revise") or _BRANCH.fullmatch(outcome))
            if not known:
                reading.fault((*inner, at), "This is no outcome of a rejection.", mend)
            elif outcome == "revise" and not revise:
                reading.fault((*inner, at), "The gate has no revise.", "Add revise: {step: draft, max_rounds: 3}.")
    if "options" in value:
        inner = (*where, "options")
        mend = "Write a list of codes: [too_expensive, wrong_customer]."
        for at, code in enumerate(reading.list(value["options"], inner, mend)):
            if isinstance(reading.name(code, (*inner, at), "The code", _REASON, mend), str):
                found["options"].append(code)
    return found


def _revise(reading: Reading, given: dict[str, Any], where: Where, scope: Scope) -> dict[str, Any] | None:
    if "revise" not in given:
        return None
    where = (*where, "revise")
    value = reading.object(given["revise"], where, ("step", "max_rounds"), mend="Write {step: draft, max_rounds: 3}.")
    rounds = reading.optional(value, where, "max_rounds", lambda v, w: reading.integer(v, w, 1, MOST_ROUNDS))
    step = value.get("step", scope.follows)
    if "step" not in value and not scope.follows:
        reading.key_fault(where, "It is not said which step is done again.", "Add step: draft.")
    elif (not isinstance(step, str) or step not in scope.siblings) and not (
        "step" not in value and not isinstance(given["revise"], dict)
    ):
        mend = f"Name one of {choices(sorted(scope.siblings))}." if scope.siblings else "Put a step before the gate."
        reading.fault((*where, "step"), "This is no step before the gate, of the same list.", mend)
    return {"step": str(step), "max_rounds": 3 if isinstance(rounds, Missing) else rounds}


def _remind(reading: Reading, given: dict[str, Any], where: Where, after: float | None) -> list[list[Any]]:
    if "remind" not in given:
        return []
    inner = (*where, "remind")
    found = []
    mend = "Write parts of the time until it expires, or spans: [50%, 4h]."
    listed = reading.list(given["remind"], inner, mend)
    if len(listed) > MOST_ENTRIES:
        reading.fault(inner, f"There are {len(listed)} reminders.", f"Use {MOST_ENTRIES} at most.")
    for at, word in enumerate(listed):
        percent = _PERCENT.fullmatch(word) if isinstance(word, str) else None
        if percent is None:
            span = reading.span(word, (*inner, at))
        elif after is None:
            reading.fault((*inner, at), "It never expires, so there is no part of that.", "Write a span, or expires.")
            continue
        else:
            span = after * int(percent[1]) / 100
        if not isinstance(span, Missing):
            found.append([span, "remind", str(word)])
    return found


def _escalate(
    reading: Reading, values: Values, given: dict[str, Any], where: Where, scope: Scope
) -> tuple[plan.Expression, list[list[Any]]]:
    """Who takes over, in order, and when."""
    if "escalate" not in given:
        return plan.Literal([]), []
    inner = (*where, "escalate")
    mend = "Write a list: [{after: 4h, add: {group: leads}}]."
    who: list[plan.Expression] = []
    agenda: list[list[Any]] = []
    last = 0.0
    listed = reading.list(given["escalate"], inner, mend)
    if len(listed) > MOST_ENTRIES:
        reading.fault(inner, f"There are {len(listed)} levels.", f"Use {MOST_ENTRIES} at most.")
    for at, level in enumerate(listed):
        place = (*inner, at)
        entry = reading.object(level, place, ("after", "add", "replace"), required=("after",), mend=mend)
        span = reading.optional(entry, place, "after", reading.span)
        if not isinstance(span, Missing):
            if span <= last:
                reading.fault((*place, "after"), "It is not later than the level before.", "Put them in order.")
            last = span
            agenda.append([span, "escalate", at])
        if entry and ("add" in entry) == ("replace" in entry):
            reading.key_fault(place, "A level has exactly one of add and replace.", mend)
        who += [
            map_of({how: map_of(_from(reading, values, entry[how], (*place, how), scope))})
            for how in ("add", "replace")
            if how in entry
        ]
    return list_of(who), agenda


def _expires(reading: Reading, given: dict[str, Any], where: Where) -> tuple[float | None, str, str]:
    """Seconds after which the gate expires, or None; what happens then, and the branch it leads to."""
    if "expires" not in given:
        return None, "reject", ""
    inner = (*where, "expires")
    expires = reading.object(
        given["expires"],
        inner,
        ("after", "then"),
        required=("after",),
        mend="Write {after: 24h, then: reject}.",
    )
    after = reading.optional(expires, inner, "after", reading.span)
    then, branch = expires.get("then", "reject"), ""
    if isinstance(then, str) and _BRANCH.fullmatch(then):
        then, _, branch = then.partition(":")
        branch = branch or "expired"
    elif "then" in expires:
        reading.choice(then, (*inner, "then"), ("reject", "fail", "approve", "branch", "branch:NAME"))
    return (None if isinstance(after, Missing) else after), str(then), branch
