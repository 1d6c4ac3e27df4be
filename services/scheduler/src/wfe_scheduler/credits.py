"""Credit: how many steps each executor has asked for and not been given yet."""

from __future__ import annotations

import time
from collections import OrderedDict

#: Seconds after which an executor nothing was heard from is not given steps any more.
SILENCE_SECONDS = 15.0


class _Executor:
    __slots__ = ("generation", "heard", "queues", "room")

    def __init__(self, queues: tuple[str, ...]) -> None:
        self.queues = queues
        self.room = 0
        self.generation = -1
        self.heard = time.monotonic()


class Credits:
    """The executors that wait for steps at this scheduler.

    Credit is a belief, not a fact: lost messages make it too low or too high for a while. An executor states it anew
    with every heartbeat, and one that is given more than it has room for keeps the rest waiting under its lease.
    """

    def __init__(self) -> None:
        self._executors: OrderedDict[str, _Executor] = OrderedDict()

    def claim(self, executor: str, queues: tuple[str, ...], generation: int, room: int) -> None:
        """An executor states its room; an older statement than the last is ignored."""
        known = self._known(executor, queues)
        if generation > known.generation:
            known.generation = generation
            known.room = max(0, room)

    def add(self, executor: str, queues: tuple[str, ...], room: int) -> None:
        """An executor has finished steps and can take as many more."""
        self._known(executor, queues).room += room

    def _known(self, executor: str, queues: tuple[str, ...]) -> _Executor:
        known = self._executors.get(executor)
        if known is None:
            known = self._executors[executor] = _Executor(queues)
        known.queues = queues
        known.heard = time.monotonic()
        return known

    def take(self, queue: str, prefer: str = "") -> str | None:
        """An executor to lease one step of a queue to; None when none waits. Others are taken in turn."""
        if prefer:
            known = self._executors.get(prefer)
            if known is not None and known.room > 0 and queue in known.queues:
                known.room -= 1
                return prefer
        oldest = time.monotonic() - SILENCE_SECONDS
        for name, known in self._executors.items():
            if known.room > 0 and queue in known.queues and known.heard > oldest:
                known.room -= 1
                self._executors.move_to_end(name)
                return name
        return None

    def give_back(self, executor: str, count: int = 1) -> None:
        """Steps that were to be leased to an executor were not."""
        known = self._executors.get(executor)
        if known is not None:
            known.room += count

    def waiting(self) -> list[tuple[str, tuple[str, ...], int]]:
        """Executors with room: (id, queues, room)."""
        oldest = time.monotonic() - SILENCE_SECONDS
        return [(n, k.queues, k.room) for n, k in self._executors.items() if k.room > 0 and k.heard > oldest]

    def serves(self, queue: str) -> bool:
        """Whether an executor of a queue waits here."""
        return any(queue in queues for _, queues, _ in self.waiting())

    def forget(self, executor: str) -> None:
        """An executor is gone."""
        self._executors.pop(executor, None)

    def forget_silent(self) -> None:
        """Forget executors nothing was heard from for four times the silence that stops their leases."""
        oldest = time.monotonic() - 4 * SILENCE_SECONDS
        for name in [name for name, known in self._executors.items() if known.heard < oldest]:
            del self._executors[name]
