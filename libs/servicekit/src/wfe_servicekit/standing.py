"""Credentials of calls that last: a stream ends soon after they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from wfe_engine.errors import PermissionDenied, Unauthenticated

__all__ = ["LOOK_SECONDS", "Standing"]

#: With the 4 seconds for which the authenticator remembers an answer, a revoked key's streams end within 5.
LOOK_SECONDS = 0.5


class Standing:
    """Looks again and again, while the block runs, whether its caller may still go on.

    Args:
        look: Raises Unauthenticated or PermissionDenied when the caller may not; what else it raises, e.g. because the
            store is away, is no reason to end.

    Raises:
        Unauthenticated: The credentials do not count any more; the block was cancelled.
        PermissionDenied: They do not suffice any more; the block was cancelled.
    """

    def __init__(self, look: Callable[[], Awaitable[object]]) -> None:
        self._look = look
        self._refusal: Exception | None = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._looking = asyncio.create_task(self._look_again())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._looking.cancel()
        if self._refusal is not None and kind is asyncio.CancelledError and self._task.uncancel() <= 0:
            raise self._refusal from None

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except (Unauthenticated, PermissionDenied) as refusal:
                self._refusal = refusal
                self._task.cancel()
                return
            except Exception:  # noqa: BLE001, S112 - looked at again
                continue
