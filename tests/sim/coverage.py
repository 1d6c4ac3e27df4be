"""What a simulation came to: events, commands, requests, faults of steps, mishaps; and what it never did."""

from __future__ import annotations

from collections import Counter
from typing import Any

from wfe_engine import commands as cmd
from wfe_engine import decide
from wfe_engine.events import NOTED, TYPES

#: What nobody does here: random plans have no expressions to wait for, and the engine must not break.
_NEVER = {"Advance", "Break"}
#: What time does to gates, and not people.
BY_TIME = {"opened", "reminded", "expiring", "escalated"}
#: What people do at a gate that leaves it open.
NOTES = tuple(sorted(NOTED.keys() - BY_TIME))
DECISIONS = ("approve", "reject", "branch", "revise", "bypass", "link")
REQUESTS = (
    "pause", "resume", "cancel", "terminate", "retry", "edit", "complete", "skip", "signal", "twice", "answer", "alive",
    "snapshot", "rollback",
)  # fmt: skip
STARTS = ("start", "delayed", "twice at once", "fork", "rerun")
MISHAPS = (
    "kill scheduler", "stop scheduler", "kill executor", "stop executor", "end executor", "wipe", "store", "clock",
    "clocks", "worse",
)  # fmt: skip
FAULTS = (
    "HANDLER_ERROR", "HTTP_STATUS", "ATTEMPT_TIMEOUT", "LEASES_LOST", "QUEUE_TIMEOUT", "TOTAL_TIMEOUT", "RUN_TIMEOUT",
    "WAIT_TIMEOUT", "HEARTBEAT_TIMEOUT", "CALLBACK_FAILED", "CHILD_FAILED", "CHILD_CANCELLED", "APPROVAL_REJECTED",
    "APPROVAL_EXPIRED", "LOOP_LIMIT", "BLOCKS_FAILED",
)  # fmt: skip
EXPECTED: dict[str, tuple[str, ...]] = {
    "events": tuple(TYPES),
    "commands": tuple(sorted(kind.__name__ for kind in decide._RULES if kind.__name__ not in _NEVER)),
    "starts": STARTS,
    "firings": ("started", "skipped", "missed"),
    "requests": REQUESTS,
    "at gates": (*DECISIONS, *NOTES),
    "faults": FAULTS,
    "mishaps": MISHAPS,
}


class Coverage:
    """Counts, by group and name: of requests those acknowledged, of commands those that changed a run."""

    def __init__(self) -> None:
        self.seen: dict[str, Counter[str]] = {group: Counter() for group in EXPECTED}

    def saw(self, group: str, name: str) -> None:
        """It has happened once more."""
        self.seen[group][name] += 1

    def add(self, other: Coverage) -> None:
        """Of another example."""
        for group, counts in other.seen.items():
            self.seen[group] += counts

    def missing(self, group: str) -> list[str]:
        """What never happened and should have."""
        return [name for name in EXPECTED[group] if not self.seen[group][name]]

    def lines(self) -> list[str]:
        """A report: a line for each group, and what is missing of it."""
        said = []
        for group, names in EXPECTED.items():
            missing = self.missing(group)
            never = f", never: {', '.join(missing)}" if missing else ""
            said.append(f"{group:9}{len(names) - len(missing):3} of {len(names)} kinds{never}")
        return said

    def counting(self, real: Any) -> Any:
        """`decide`, counted."""

        def counted(plan: Any, state: Any, command: cmd.Command, env: Any) -> Any:
            decision = real(plan, state, command, env)
            if not decision.empty:
                self.saw("commands", type(command).__name__)
            return decision

        return counted
