"""Reading runs back for commands that came while they were not in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

from wfe_scheduler import refusals
from wfe_scheduler.entries import Cache, Entry, Item


class Reader:
    """One read at a time; whatever is asked for meanwhile makes the next.

    Args:
        load: Reads runs by id; those that do not exist are missing.
        cache: Where they go.
        loaded: Takes the commands whose runs are in memory now.

    Attributes:
        depth: Commands that wait.
    """

    def __init__(
        self,
        load: Callable[[Iterable[UUID]], Awaitable[dict[UUID, Entry]]],
        cache: Cache,
        loaded: Callable[[list[Item]], None],
    ) -> None:
        self._load = load
        self._cache = cache
        self._loaded = loaded
        self._waiting: dict[UUID, list[Item]] = {}
        self._wanted: list[UUID] = []
        self._task: asyncio.Task[None] | None = None
        self.depth = 0

    @property
    def oldest(self) -> Item | None:
        """The command that has waited longest."""
        return next(iter(self._waiting.values()))[0] if self._waiting else None

    @property
    def busy(self) -> bool:
        """Whether a command waits for its run."""
        return bool(self._waiting)

    def want(self, item: Item) -> None:
        """Read the run of a command; it is handed on, or told that there is none."""
        item.fresh = True
        self.depth += 1
        waiting = self._waiting.get(item.run)
        if waiting is not None:
            waiting.append(item)
            return
        self._waiting[item.run] = [item]
        self._wanted.append(item.run)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        await asyncio.sleep(0)  # let the batch that is being taken finish: one read for all of it
        try:
            while self._wanted:
                runs, self._wanted = self._wanted, []
                await self._read_some(runs)
        finally:
            self._task = None

    async def _read_some(self, runs: list[UUID]) -> None:
        try:
            found = await self._load(runs)
            fault: Exception | None = None
        except Exception as broken:  # noqa: BLE001 - whoever waits must be told, whatever it was
            found, fault = {}, broken
        ready: list[Item] = []
        for run in runs:
            items = self._waiting.pop(run, [])
            self.depth -= len(items)
            entry = found.get(run)
            if entry is None:
                for item in items:
                    item.done(fault or refusals.missing(run))
                continue
            if self._cache.get(run) is None:
                self._cache.put(entry)
            ready += items
        self._loaded(ready)
