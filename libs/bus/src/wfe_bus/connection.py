"""A NATS connection that never gives up."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client

#: NATS refuses messages above 1 MiB; answers are filled up to this many bytes, the rest goes in another message.
MESSAGE_BYTES = 900_000


async def connect(
    url: str,
    *,
    role: str,
    name: str,
    user: str | None = None,
    password: str | None = None,
    ca: Path | None = None,
    on_reconnect: Callable[[], Awaitable[None]] | None = None,
    on_error: Callable[[Exception], Awaitable[None]] | None = None,
) -> Client:
    """Connect to NATS, and keep reconnecting for ever once connected.

    Args:
        url: nats://host:port, several with commas.
        role: scheduler, approvals or executor; prefix of the inbox, as the server's permissions want it.
        name: Shown in the server's connection list.
        user, password: The role's credentials; None for a server without users.
        ca: PEM file with the authority of a tls:// server's certificate; None for those of the system.
        on_reconnect: Called after the connection is back, e.g. to claim again.
        on_error: Called with every error of the connection; they never end it.

    Raises:
        OSError: The authority's file cannot be read.
        nats.errors.NoServersError: The first connection failed for five seconds.
    """
    options: dict[str, Any] = {}
    if user:
        options |= {"user": user, "password": password or ""}
    if ca is not None:
        options["tls"] = ssl.create_default_context(cafile=ca)
    if on_reconnect:
        options["reconnected_cb"] = on_reconnect

    async def swallow(_: Exception) -> None:
        return None

    client: Client = await nats.connect(
        servers=url.split(","),
        name=name,
        inbox_prefix=f"_INBOX.{role}".encode(),
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,
        connect_timeout=5,
        ping_interval=10,
        max_outstanding_pings=2,
        error_cb=on_error or swallow,
        **options,
    )
    return client


class Refused(Exception):
    """The server does not let us in; the message is its reason."""


async def probe(url: str, seconds: float) -> None:
    """Connect to one server and leave again.

    Raises:
        Refused: It does not let us in.
        TimeoutError: It did not within the seconds.
    """

    async def swallow(_: Exception) -> None:
        return None

    client = Client()
    entering = client.connect(url, allow_reconnect=False, connect_timeout=seconds, error_cb=swallow)
    try:
        await asyncio.wait_for(entering, seconds)
    except nats.errors.Error as fault:
        raise Refused(str(fault).removeprefix("nats: ")) from fault
    finally:
        await client.close()


async def settle(client: Client) -> None:
    """Wait until the server knows every subscription made so far.

    One flush is not enough: nats-py writes its PING past the commands that still wait for the flusher, so the first
    answer may come before the server has read the subscriptions. While it is awaited the flusher has run.

    Raises:
        nats.errors.Error: The connection was lost.
    """
    await client.flush()
    await client.flush()
