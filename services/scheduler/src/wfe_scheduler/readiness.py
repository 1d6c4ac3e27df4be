"""Whether the parts of the engine are there."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client
from wfe_bus import subjects
from wfe_engine.errors import Unavailable
from wfe_store.leases import live_handlers
from wfe_store.pool import Database


async def readiness(database: Database, bus: Client) -> dict[str, str]:
    """Part by part, ok or what is wrong."""
    parts = {"store": "ok", "bus": "ok", "approvals": "ok", "executors": "ok"}
    try:
        async with asyncio.timeout(2), database.connection() as connection:
            if await live_handlers(connection) is None:
                parts["executors"] = "no executor is live"
    except (Unavailable, TimeoutError):
        parts["store"], parts["executors"] = "down", "unknown"
    if not bus.is_connected:
        return parts | {"bus": "down", "approvals": "unknown"}
    try:
        await bus.request(subjects.ping("approvals"), b"", timeout=1)
    except Exception:  # noqa: BLE001 - no answer is the answer, whatever the reason
        parts["approvals"] = "no answer"
    return parts
