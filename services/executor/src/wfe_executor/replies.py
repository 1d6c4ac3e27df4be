"""Requests over the bus: one subscription for all answers.

The client's own `request` swallows a cancellation that arrives together with the answer (asyncio.wait_for does so
in Python 3.11), and cancelled work would go on; and it costs twice as much, which every report would pay.
"""

from __future__ import annotations

import asyncio

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

_NO_RESPONDERS = "503"


class Replies:
    """Sends requests over one connection and matches the answers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = f"{client.new_inbox()}."
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._count = 0

    async def open(self) -> None:
        """Listen for answers."""
        await self._client.subscribe(f"{self._inbox}*", cb=self._take)

    async def request(self, subject: str, payload: bytes, seconds: float) -> bytes:
        """Send a request and give back its answer.

        Raises:
            nats.errors.NoRespondersError: Nobody listens.
            TimeoutError: No answer within so many seconds.
            nats.errors.Error, OSError: It could not be sent.
        """
        self._count += 1
        token = str(self._count)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting[token] = answer
        timer = loop.call_later(seconds, _expire, answer)
        try:
            await self._client.publish(subject, payload, reply=self._inbox + token)
            return await answer
        finally:
            timer.cancel()
            del self._waiting[token]
            if not answer.done():
                answer.cancel()

    async def _take(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject[len(self._inbox) :])
        if answer is None or answer.done():
            return
        if not message.data and message.headers and message.headers.get("Status") == _NO_RESPONDERS:
            answer.set_exception(nats.errors.NoRespondersError())
        else:
            answer.set_result(message.data)


def _expire(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError("no answer"))
