"""Expressions that may take long, in a process that is started when the first one comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from wfe_engine.plan import Cel
from wfe_language import CelEvaluator, ExpressionPool, is_cheap, narrowed


class Pool:
    """Evaluates at once what is cheap, and everything else in bounded time outside of this process."""

    def __init__(self) -> None:
        self._pool: ExpressionPool | None = None
        self._starting = asyncio.Lock()
        self._cel = CelEvaluator()

    async def evaluate(self, expression: Cel, bindings: Mapping[str, Any]) -> Any:
        """See `ExpressionPool.evaluate`.

        Raises:
            ExpressionError: It fails, takes too long or needs too much memory; it would again.
            ResourceExhausted, Unavailable: There is no room for it now.
        """
        bindings = narrowed(expression, bindings)
        if is_cheap(expression, bindings):
            return self._cel.evaluate(expression, bindings)
        async with self._starting:
            if self._pool is None:
                pool = ExpressionPool(size=1)
                await pool.start()
                self._pool = pool
        return await self._pool.evaluate(expression, bindings)

    async def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            await self._pool.close()
