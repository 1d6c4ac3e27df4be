"""Runs in memory: what deciding needs of them, at the version the store had when last seen."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

from wfe_engine.commands import Command
from wfe_engine.state import RunState
from wfe_engine.values import Values
from wfe_store.batch import NewRun
from wfe_store.load import LoadedRun

from wfe_scheduler.plans import Published


class Item:
    """A command on its way through a cycle.

    Attributes:
        run: Which run.
        command: What is asked.
        actor, reason: Who asks, and why, for the events.
        owner: Owner the run must belong to; None for what does not come from a client.
        entry: The run itself, for a start: it is not in the store yet.
        reporter: Executor that reported, for giving it the next step.
        fresh: It is decided on what the store had after it came, so that a refusal stands.
        since: When it began to wait for a cycle; `time.monotonic()`.
        done: Called once, after the commit with None, or with why it was refused. Must not raise.
    """

    __slots__ = ("actor", "command", "done", "entry", "fresh", "owner", "reason", "reporter", "run", "since")

    def __init__(
        self,
        run: UUID,
        command: Command,
        done: Callable[[Exception | None], None],
        *,
        actor: str,
        reason: str = "",
        owner: UUID | None = None,
        entry: Entry | None = None,
        reporter: str = "",
    ) -> None:
        self.run = run
        self.command = command
        self.done = done
        self.actor = actor
        self.reason = reason
        self.owner = owner
        self.entry = entry
        self.reporter = reporter
        self.fresh = False
        self.since = 0.0


class Entry:
    """A run in memory.

    Attributes:
        version: Of the stored run this is; 0 for one that is about to be inserted.
        busy: A cycle that decides on it is being committed.
        pending: Items that wait for that commit.
        new: What to insert with it, for a start.
        is_child: Another run waits for its end.
    """

    __slots__ = (
        "busy",
        "created_by",
        "is_child",
        "new",
        "owner",
        "pending",
        "published",
        "run",
        "state",
        "values",
        "version",
    )

    def __init__(
        self,
        run: UUID,
        owner: UUID,
        created_by: UUID,
        published: Published,
        state: RunState,
        version: int,
        values: Values,
        new: NewRun | None = None,
        is_child: bool = False,
    ) -> None:
        self.run = run
        self.owner = owner
        self.created_by = created_by
        self.published = published
        self.state = state
        self.version = version
        self.values = values
        self.new = new
        self.is_child = is_child
        self.busy = False
        self.pending: deque[Item] = deque()


def run_facts(
    run: UUID, template: str, template_version: int, created_by: UUID, created_at: str, labels: dict[str, str]
) -> dict[str, Any]:
    """What expressions see as `run`."""
    return {
        "id": str(run),
        "template": {"name": template, "version": template_version},
        "created_by": str(created_by),
        "created_at": created_at,
        "labels": labels,
    }


def entry_of(loaded: LoadedRun, published: Published) -> Entry:
    """A run as it was loaded."""
    facts = run_facts(
        loaded.run,
        loaded.template_name,
        loaded.template_version,
        loaded.created_by,
        loaded.created_at.isoformat().replace("+00:00", "Z"),
        loaded.labels,
    )
    facts["epoch"] = loaded.state.epoch
    values = Values(loaded.input, facts, loaded.records, loaded.inputs, loaded.gates)
    values.signals = loaded.signals
    values.then, values.asked, values.withdrawn = loaded.then, loaded.asked, loaded.withdrawn
    return Entry(
        loaded.run,
        loaded.owner,
        loaded.created_by,
        published,
        loaded.state,
        loaded.version,
        values,
        is_child=loaded.is_child,
    )


class Cache:
    """Runs in memory, least recently used first out; busy ones stay."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[UUID, Entry] = OrderedDict()

    def get(self, run: UUID) -> Entry | None:
        """The run, if it is here."""
        entry = self._entries.get(run)
        if entry is not None:
            self._entries.move_to_end(run)
        return entry

    def put(self, entry: Entry) -> None:
        """Keep a run."""
        self._entries[entry.run] = entry
        if len(self._entries) > self._size:
            for run, old in self._entries.items():
                if not old.busy and not old.pending:
                    del self._entries[run]
                    break

    def drop(self, run: UUID) -> None:
        """Forget a run; the next command reads it back."""
        self._entries.pop(run, None)

    def __len__(self) -> int:
        return len(self._entries)
