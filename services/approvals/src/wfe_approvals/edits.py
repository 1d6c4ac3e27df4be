"""Edits of a gate's payload: only where the policy allows it, within its schema, kept as a JSON Patch."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import jsonpatch
import jsonpointer
import msgspec
from wfe.api.v1 import approval_service_pb2 as pb
from wfe_engine.digests import approval_digest
from wfe_engine.errors import InvalidInput
from wfe_engine.sizes import MOST_BYTES
from wfe_engine.values import SEALED
from wfe_language.schemas import validator
from wfe_servicekit.checks import Violations, choice, value_to_plain
from wfe_store.gates import Edit, Gate

from wfe_approvals.differences import patch_between

OPERATIONS = ("replace", "add", "remove")
MOST_EDITS = 100

_LIMIT = re.compile(r"(<=|>=|<|>|==)\s*(original|-?\d+(?:\.\d+)?)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq
}  # fmt: skip
_encode = msgspec.json.encode
_decode = msgspec.json.decode


def parse_edits(edits: Sequence[pb.Edit], field: str = "edits") -> list[dict[str, Any]]:
    """The operations of a request, as JSON Patch has them."""
    faults = Violations()
    if len(edits) > MOST_EDITS:
        faults.add(field, f"must be at most {MOST_EDITS}")
    found: list[dict[str, Any]] = []
    for at, edit in enumerate(edits[:MOST_EDITS]):
        where = f"{field}[{at}]"
        operation = "replace"
        with faults.collect():
            operation = choice(edit.op or "replace", f"{where}.op", OPERATIONS)
        one: dict[str, Any] = {"op": operation, "path": edit.path}
        if operation != "remove":
            with faults.collect():
                one["value"] = value_to_plain(edit.value, f"{where}.value")
        found.append(one)
    faults.raise_if_any()
    return found


def editor(edits: list[dict[str, Any]]) -> Callable[[Gate], Edit | None] | None:
    """What makes an edit of a gate; None when there are no edits."""
    return (lambda gate: make_edit(gate, edits)) if edits else None


def make_edit(gate: Gate, edits: list[dict[str, Any]]) -> Edit | None:
    """The edited payload of a gate; None when the edits change nothing.

    Raises:
        InvalidInput: An edit is of something that is not editable, or the payload breaks its schema with it.
    """
    form = gate.policy.form
    editable: list[str] = form.get("editable") or []
    present = None if gate.present is None else _decode(gate.present)
    faults = Violations()
    touched = set()
    for at, edit in enumerate(edits):
        listed = next((p for p in editable if edit["path"] == p or edit["path"].startswith(p + "/")), None)
        if listed is None or not gate.bound:
            known = ", ".join(editable) or "nothing"
            faults.add(f"edits[{at}].path", f"is not editable; editable: {known}")
        else:
            touched.add(listed)
    faults.raise_if_any()
    try:
        edited = jsonpatch.apply_patch(None if gate.present is None else _decode(gate.present), edits, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as fault:
        raise InvalidInput(f"cannot be applied: {fault}", field="edits") from None
    if not patch_between(present, edited):
        return None
    if _sealed(edited) != _sealed(present):
        raise InvalidInput("would change a sealed value, which nobody sees here", field="edits")
    for error in list(validator(form["payload"]).iter_errors(edited))[:20] if form.get("payload") else ():
        where = "".join(f"/{part}" for part in error.instance_path)
        faults.add("edits", f"the payload would break its schema at {where or '/'}: {error.message}")
    faults.raise_if_any()
    data = _encode(edited)
    if len(data) > MOST_BYTES:
        message = f"the payload would have {len(data)} bytes as JSON, at most {MOST_BYTES} are kept"
        raise InvalidInput(message, field="edits")
    original = None if gate.payload is None else _decode(gate.payload)
    limits: dict[str, str] = form.get("limits") or {}
    kept = {pointer: _keeps(limits[pointer], original, edited, pointer) for pointer in touched if pointer in limits}
    path, iteration, kind = _decode(gate.bound)
    return Edit(
        payload=data.decode(),
        patch=_encode(patch_between(original, edited)).decode(),
        digest=approval_digest(str(gate.run_id), path, iteration, kind, edited),
        within=len(kept) == len(touched) and all(kept.values()),
        beyond=not all(kept.values()),
    )


def check_form(gate: Gate, values: Any) -> None:
    """Refuse what the form's schema does not allow.

    Raises:
        InvalidInput: With every field that is wrong.
    """
    schema = gate.policy.form.get("schema")
    if not schema:
        if values is not None:
            raise InvalidInput("the gate has no form", field="form")
        return
    faults = Violations()
    for error in list(validator(schema).iter_errors({} if values is None else values))[:50]:
        faults.add("form" + "".join(f".{part}" for part in error.instance_path), error.message)
    faults.raise_if_any()


def _keeps(limit: str, original: Any, edited: Any, pointer: str) -> bool:
    match = _LIMIT.fullmatch(limit)
    new = jsonpointer.resolve_pointer(edited, pointer, None)
    old = jsonpointer.resolve_pointer(original, pointer, None)
    if match is None or not _is_number(new) or (match[2] == "original" and not _is_number(old)):
        return False
    return _COMPARE[match[1]](new, old if match[2] == "original" else float(match[2]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sealed(value: Any) -> list[Any]:
    """Every sealed placeholder in a value, in order."""
    if isinstance(value, dict):
        if SEALED in value:
            return [value]
        return [found for key in sorted(value) for found in _sealed(value[key])]
    if isinstance(value, list):
        return [found for item in value for found in _sealed(item)]
    return []
