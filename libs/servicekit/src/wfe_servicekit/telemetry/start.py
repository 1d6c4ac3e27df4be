"""Telemetry of a process, from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from wfe_servicekit.settings import ProcessSettings
from wfe_servicekit.telemetry.process import MetricsServer

__all__ = ["observe"]


async def observe(service: str, settings: ProcessSettings) -> Callable[[], Awaitable[None]]:
    """Serve the metrics and begin to send, as the settings say.

    Args:
        service: scheduler, executor or approvals.
        settings: Of the process.

    Returns:
        What ends it; spans and lines that wait are sent first, within a few seconds.

    Raises:
        ConfigFault: The metrics' port cannot be listened on.
    """
    server = MetricsServer(settings)
    await server.start()
    end: Callable[[], None] | None = None
    if settings.otlp_endpoint is not None:
        # The exporters' modules cost memory and half a second; only who sends pays.
        from wfe_servicekit.telemetry.otlp import start_telemetry

        end = start_telemetry(service, settings)

    async def close() -> None:
        await server.close()
        if end is not None:
            await asyncio.to_thread(end)

    return close
