"""What one cycle does with one run, and what a whole cycle brought about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from wfe_engine.effects import Dispatch, Effects
from wfe_engine.events import Event, GateNoted, encode_event
from wfe_store.batch import Batch, RunWrite, fence_of
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
        """Whether effects write rows that this work writes already, or stand on some that it takes back."""
        present = effects.touched()
        return any(before.revised or not present.isdisjoint(before.touched()) for before in self.effects)

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


def batch_of(works: Sequence[Work], told: Callable[[UUID], bool]) -> Batch:
    """What the works write, in the order of the runs' ids; `told` as `Batch` has it."""
    batch = Batch(works[0].now, told)
    for work in works:
        batch.add(work.write())
    return batch


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
    if isinstance(first, GateNoted):
        actor, reason = first.by, first.comment
    alike = (event.type, event.actor, event.reason) == (first.TYPE, actor, reason) and abs(event.at - work.now) < 1e-6
    # References to what lies out of line are made anew with every commit.
    return alike and ('{"$blob":' in event.data or event.data == encode_event(first).decode())


async def happened(recorded: Callable[[UUID, int], Awaitable[StoredEvent | None]], works: Sequence[Work]) -> bool:
    """Whether one of these, whose commits' outcomes are unknown, is in the log of its run.

    Args:
        recorded: Reads an event of a run by its seq.
        works: Decisions that may have been committed.
    """
    first = [(work, work.entry.state.seq + 1) for work in works if work.events]
    return any([is_its_own(await recorded(work.entry.run, seq), work) for work, seq in first])
