"""What one cycle does with one run, and what a whole cycle brought about."""

from __future__ import annotations

from wfe_engine.effects import Dispatch, Effects
from wfe_engine.events import Event, encode_event
from wfe_store.batch import RunWrite, fence_of
from wfe_store.commit import Stopped
from wfe_store.load import StoredEvent

from wfe_scheduler.entries import Entry, Item


class Stale(Exception):
    """The lease of a report is no longer held; nothing was changed."""


class Work:
    """What one cycle does with one run."""

    __slots__ = ("effects", "entry", "events", "items", "leased", "leases", "now", "state")

    def __init__(self, entry: Entry, now: float) -> None:
        self.entry = entry
        self.now = now  # moment of its decisions, and so of its events
        self.state = entry.state
        self.items: list[Item] = []
        self.events: list[tuple[Event, str, str]] = []
        self.effects: list[Effects] = []
        self.leases: dict[int, str] = {}
        self.leased: list[Dispatch] = []

    def touches(self, effects: Effects) -> bool:
        """Whether effects write rows that this work writes already."""
        present = effects.touched()
        return any(not present.isdisjoint(before.touched()) for before in self.effects)

    def write(self) -> RunWrite:
        """The run's share of the batch."""
        entry = self.entry
        return RunWrite(
            run=entry.run,
            owner=entry.owner,
            priority=entry.published.plan.priority,
            started_by=entry.created_by,
            expected=entry.version,
            version=entry.version + 1,
            state=self.state,
            first_seq=entry.state.seq + 1,
            events=self.events,
            effects=self.effects,
            leases=self.leases,
            new=entry.new,
            is_child=entry.is_child,
        )


class Outcome:
    """What a committed cycle brought about, for whoever tells the world.

    Attributes:
        works: Committed runs.
        stopped: Leases that ended under executors that still hold them.
    """

    __slots__ = ("stopped", "works")

    def __init__(self, works: list[Work], stopped: list[Stopped]) -> None:
        self.works = works
        self.stopped = stopped


def lease_fence(work: Work) -> int:
    """Fence of the steps leased in a work's commit; its entry has the new version already."""
    return fence_of(work.entry.version) + 1


def is_its_own(event: StoredEvent | None, work: Work) -> bool:
    """Whether a stored event is the first one of a work: then the commit whose outcome was unknown has happened.

    The state does not show it: others may have decided since, or have decided the same.
    """
    if event is None:
        return False
    first, actor, reason = work.events[0]
    same = (event.type, event.actor, event.reason, event.data) == (
        first.TYPE,
        actor,
        reason,
        encode_event(first).decode(),
    )
    return same and abs(event.at - work.now) < 1e-6
