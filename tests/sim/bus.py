"""A bus that delays, reorders, loses and duplicates messages, and can be wiped; with the face of a NATS client."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
from wfe_bus import messages, subjects

from tests.sim.machine import Process, SimLoop


class Faults:
    """How bad it is: chances of one message or statement, and spans.

    Attributes:
        lost, twice: Of a message.
        refused: Of a statement that fails before anything happened.
        unknown: Of a statement or commit whose answer is lost; half of them happened.
    """

    def __init__(self) -> None:
        self.lost = self.twice = self.refused = self.unknown = 0.0
        self.longest = 0.01
        self.down_until = 0.0
        self.store_down_until = 0.0

    def stop(self) -> None:
        """No faults any more."""
        self.__init__()  # type: ignore[misc]


class Message:
    """A message as a subscriber gets it."""

    def __init__(self, bus: Bus, subject: str, data: bytes, reply: str) -> None:
        self._bus = bus
        self.subject, self.data, self.reply = subject, data, reply

    async def respond(self, data: bytes) -> None:
        await self._bus.send(self.reply, data)


class Bus:
    """Subjects and subscribers."""

    def __init__(self, loop: SimLoop, rng: random.Random, faults: Faults) -> None:
        self.loop, self.rng, self.faults = loop, rng, faults
        self._subscribers: dict[str, list[tuple[Process, str, Callable[[Any], Awaitable[None]]]]] = {}
        self._numbers = itertools.count()
        self._life = 0

    def wipe(self, seconds: float) -> None:
        """Everything under way is gone, and nothing gets through for a while."""
        self._life += 1
        self.faults.down_until = self.loop.time() + seconds

    @property
    def down(self) -> bool:
        return self.faults.down_until > self.loop.time()

    def subscribe(self, process: Process, subject: str, group: str, handler: Any) -> None:
        self._subscribers.setdefault(subject, []).append((process, group, handler))

    def unsubscribe(self, subject: str) -> None:
        self._subscribers.pop(subject, None)

    def forget(self, process: Process) -> None:
        """The server has noticed that a process is gone."""
        for subject, entries in self._subscribers.items():
            self._subscribers[subject] = [entry for entry in entries if entry[0] is not process]

    async def send(self, subject: str, data: bytes, reply: str = "") -> None:
        if self.down:
            return
        groups: dict[str, list[Any]] = {}
        for number, entry in enumerate(self._subscribers.get(subject, [])):
            groups.setdefault(entry[1] or f"#{number}", []).append(entry)
        for entries in groups.values():
            process, _, handler = self.rng.choice(entries)
            copies = 2 if self.rng.random() < self.faults.twice else 1
            for _ in range(copies):
                if self.rng.random() >= self.faults.lost:
                    message = Message(self, subject, data, reply)
                    delay = self.rng.random() ** 4 * self.faults.longest
                    self.loop.call_later(delay, self._deliver, self._life, process, handler, message)

    def _deliver(self, life: int, process: Process, handler: Any, message: Message) -> None:
        if life != self._life or process.dead:
            return

        async def deliver() -> None:
            await process.alive()
            await handler(message)

        process.spawn(deliver)

    async def request(self, process: Process, subject: str, data: bytes, seconds: float) -> bytes:
        if self.down:
            raise nats.errors.ConnectionClosedError
        if not self._subscribers.get(subject):
            raise nats.errors.NoRespondersError
        inbox = f"_INBOX.{next(self._numbers)}"
        answer: asyncio.Future[bytes] = self.loop.create_future()

        async def take(message: Message) -> None:
            if not answer.done():
                answer.set_result(message.data)

        self.subscribe(process, inbox, "", take)
        try:
            await self.send(subject, data, inbox)
            async with asyncio.timeout(seconds):
                return await answer
        finally:
            self.unsubscribe(inbox)


class Client:
    """What a service sees of the bus: the part of `nats.aio.client.Client` that the engine uses."""

    def __init__(self, bus: Bus, process: Process) -> None:
        self._bus, self._process = bus, process

    @property
    def is_connected(self) -> bool:
        return not self._bus.down

    async def publish(self, subject: str, data: bytes) -> None:
        await self._process.alive()
        await self._bus.send(subject, data)

    async def subscribe(self, subject: str, queue: str = "", cb: Any = None) -> None:
        self._bus.subscribe(self._process, subject, queue, cb)

    async def request(self, subject: str, data: bytes, timeout: float) -> bytes:
        await self._process.alive()
        return await self._bus.request(self._process, subject, data, timeout)


class Link:
    """What an executor sees of the bus: the part of `wfe_executor.link.Link` that its parts use.

    Args:
        accepted: Told of every outcome that a scheduler says it has taken.
    """

    closed = False
    message_bytes = 900_000

    def __init__(self, client: Client, executor: str, accepted: Callable[[Any], None]) -> None:
        self._client = client
        self.executor = executor
        self._accepted = accepted

    async def publish(self, subject: str, message: Any) -> None:
        await self._client.publish(subject, messages.encode(message))

    async def request(self, subject: str, payload: bytes, seconds: float) -> bytes:
        answer = await self._client.request(subject, payload, seconds)
        if subject.startswith(subjects.REPORT):
            stale = messages.decoder(messages.Reported).decode(answer).stale
            for outcome in messages.decoder(messages.Report).decode(payload).outcomes:
                ref = messages.LeaseRef(run=outcome.run, no=outcome.no, fence=outcome.fence)
                if not outcome.released and ref not in stale:
                    self._accepted(ref)
        return answer
