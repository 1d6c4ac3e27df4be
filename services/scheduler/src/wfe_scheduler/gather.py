"""Looking many things up at once: whoever asks within one turn of the loop shares one query."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Gather(Generic[K, V]):
    """Collects keys and looks them up together.

    Args:
        look_up: Values by key; keys without a value are missing.
    """

    def __init__(self, look_up: Callable[[list[K]], Awaitable[dict[K, V]]]) -> None:
        self._look_up = look_up
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """The value of a key; None without one. Raises what the look-up raised."""
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            try:
                found = await self._look_up(list(waiting))
            except Exception as fault:  # noqa: BLE001 - whoever waits must be told
                for future in [f for futures in waiting.values() for f in futures if not f.done()]:
                    future.set_exception(fault)
                continue
            for key, futures in waiting.items():
                for future in futures:
                    if not future.done():
                        future.set_result(found.get(key))
