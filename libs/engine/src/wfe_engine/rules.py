"""What each kind of step does, by kind. The modules of `wfe_engine.kinds` fill these tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from wfe_engine.plan import Node
from wfe_engine.state import Fault
from wfe_engine.turn import Turn

#: Enters a step: (turn, scope, node, no, params) -> whether it has finished already. Its row and events are its own.
Enter = Callable[[Turn, str, Node, int, Any], bool]
#: Goes on with a live step that has blocks, from whatever its state is: (turn, scope, index).
GoOn = Callable[[Turn, str, int], None]
#: A block of a step failed, and nothing in it is active any more: (turn, scope, index, block, round, fault).
BlockFailed = Callable[[Turn, str, int, int, int, Fault], None]

#: Makes the request of a step an executor runs from its evaluated params: (turn, scope, params).
Request = Callable[[Turn, str, Any], Any]

ENTER: dict[str, Enter] = {}
GO_ON: dict[str, GoOn] = {}
BLOCK_FAILED: dict[str, BlockFailed] = {}
REQUEST: dict[str, Request] = {}

F = TypeVar("F", bound=Callable[..., Any])


def rule(table: dict[str, Any], *kinds: str) -> Callable[[F], F]:
    """Put a function into a table under some kinds."""

    def keep(function: F) -> F:
        table.update(dict.fromkeys(kinds, function))
        return function

    return keep
