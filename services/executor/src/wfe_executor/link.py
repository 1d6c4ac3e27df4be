"""The executor's side of the bus."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from wfe_bus import messages, subjects
from wfe_bus.connection import MESSAGE_BYTES, connect, settle

from wfe_executor.config import Settings
from wfe_executor.replies import Replies

M = TypeVar("M", bound=messages.Message)

#: Whatever a request over the bus may end with, other than an answer.
BUS_ERRORS = (nats.errors.Error, OSError, EOFError, asyncio.TimeoutError)

#: Seconds to wait for an answer before asking again.
ASK_SECONDS = 5.0

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

_log = structlog.get_logger("wfe.executor.link")
_leases = messages.decoder(messages.Leases)
_stops = messages.decoder(messages.Stop)


def backoff(tries: int) -> float:
    """Seconds before the next try: 0.05 s doubling up to 2 s, with jitter."""
    return min(_FIRST_PAUSE * 2.0 ** min(tries, 10), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)


class Link:
    """One connection to the bus, opened again whenever it is closed for good.

    Args:
        settings: Where and as whom to connect.
        executor: Id of this process.
    """

    def __init__(self, settings: Settings, executor: str) -> None:
        self.executor = executor
        self._settings = settings
        self._client: Client | None = None
        self._replies: Replies | None = None
        self._on_leases: Callable[[messages.Leases], None] = lambda _: None
        self._on_stop: Callable[[messages.Stop], None] = lambda _: None
        self._on_reconnect: Callable[[], None] = lambda: None

    def listen(
        self,
        on_leases: Callable[[messages.Leases], None],
        on_stop: Callable[[messages.Stop], None],
        on_reconnect: Callable[[], None],
    ) -> None:
        """Say who takes what arrives; before `open`. None of them may block or raise."""
        self._on_leases, self._on_stop, self._on_reconnect = on_leases, on_stop, on_reconnect

    @property
    def message_bytes(self) -> int:
        """Largest message the server takes, in bytes, with room for subject and envelope."""
        limit = self._client.max_payload if self._client is not None else MESSAGE_BYTES
        return min(MESSAGE_BYTES, int(limit * 0.9))

    @property
    def closed(self) -> bool:
        """Whether the connection is gone for good and must be opened again."""
        return self._client is None or self._client.is_closed

    async def open(self) -> None:
        """Connect, waiting for the server as long as it takes, and listen."""
        password = self._settings.nats_password
        client = await connect(
            self._settings.nats_url,
            role="executor",
            name=self.executor,
            user=self._settings.nats_user,
            password=password.get_secret_value() if password else None,
            ca=self._settings.nats_ca,
            on_reconnect=self._reconnected,
            on_error=_say,
        )
        self._client, self._replies = client, Replies(client)
        await self._replies.open()
        await client.subscribe(subjects.leases_for(self.executor), cb=self._take_leases)
        await client.subscribe(subjects.stop_for(self.executor), cb=self._take_stop)
        # The server knows the subscriptions before anybody is told of this executor.
        await settle(client)

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()

    async def publish(self, subject: str, message: messages.Message) -> None:
        """Send a message nobody answers; while the connection is down it may get lost without an error."""
        if self._client is not None:
            try:
                await self._client.publish(subject, messages.encode(message))
            except BUS_ERRORS as error:
                _log.debug("publish failed", subject=subject, error=repr(error))

    async def request(self, subject: str, payload: bytes, seconds: float) -> bytes:
        """Send a request once and give back the answer.

        Raises:
            nats.errors.NoRespondersError: Nobody listens.
            TimeoutError: No answer within so many seconds.
            nats.errors.MaxPayloadError: The server takes no message of this size.
            nats.errors.Error, OSError: The connection failed.
        """
        if self._replies is None:
            raise nats.errors.ConnectionClosedError
        return await self._replies.request(subject, payload, seconds)

    async def ask(self, subject: str, message: messages.Message, answer: Callable[[bytes], M]) -> M:
        """Send a request again and again until it is answered; cancel it to give up."""
        payload = messages.encode(message)
        tries = 0
        while True:
            try:
                return answer(await self.request(subject, payload, ASK_SECONDS))
            except (*BUS_ERRORS, msgspec.DecodeError) as error:
                _log.debug("asking again", subject=subject, error=repr(error))
            await asyncio.sleep(backoff(tries))
            tries += 1

    async def _take_leases(self, message: Msg) -> None:
        await self._take(message, _leases.decode, self._on_leases)

    async def _take_stop(self, message: Msg) -> None:
        await self._take(message, _stops.decode, self._on_stop)

    async def _take(self, message: Msg, decode: Callable[[bytes], Any], take: Callable[[Any], None]) -> None:
        try:
            body = decode(message.data)
        except msgspec.DecodeError as error:
            _log.error("a message that cannot be read", subject=message.subject, error=str(error)[:500])
            return
        take(body)

    async def _reconnected(self) -> None:
        _log.info("connected to the bus again")
        self._on_reconnect()


async def _say(error: Exception) -> None:
    _log.warning("bus connection", error=repr(error)[:500])
