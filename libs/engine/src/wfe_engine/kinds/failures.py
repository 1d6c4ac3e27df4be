"""Steps that go on although blocks of them failed."""

from __future__ import annotations

from typing import Any

from wfe_engine import events as ev
from wfe_engine.advance import go_on_later
from wfe_engine.state import Fault
from wfe_engine.turn import Turn, encode

#: Some blocks of a step failed: more than may, or it went on all the same.
BLOCKS_FAILED = "BLOCKS_FAILED"


def take_failure(turn: Turn, scope: str, index: int, block: int, round_: int, fault: Fault) -> None:
    """A block failed and its step goes on all the same."""
    step = turn.live(scope, index)
    turn.emit(
        ev.BlockEnded(
            step=step.path, no=step.no, i=index, scope=scope, block=block, round=round_, status="failed", fault=fault
        )
    )
    go_on_later(turn, scope, index)


def failed_in(turn: Turn, key: str) -> dict[str, Any] | None:
    """What a block that has ended failed with; None when it did not."""
    for node in turn.block(key).nodes:
        record = turn.recorded(key, node.id)
        if record is not None and record.status == "failed":
            error = record.seen()["error"] or {}
            return {"code": error.get("code"), "message": error.get("message"), "step": error.get("step") or node.path}
    return None


def gathered(errors: list[dict[str, Any]], of: int, path: str) -> bytes | None:
    """The error of a step that went on after failures; None when there were none."""
    if not errors:
        return None
    message = f"{len(errors)} of {of} failed; the first with {errors[0]['code']}: {errors[0]['message']}"
    return encode(Fault(code=BLOCKS_FAILED, message=message, step=path, details={"errors": errors[:100]}))
