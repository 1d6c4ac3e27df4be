"""Starts with an Idempotency-Key: the same key begins one run, however often it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from wfe_engine.errors import AlreadyExists, ResourceExhausted, Unavailable, WfeError
from wfe_store.commit import Lost
from wfe_store.load import load_keys, load_runs
from wfe_store.pool import Database

from wfe_scheduler.api.engine import StartedRun
from wfe_scheduler.gather import Gather

#: Seconds for which keys are looked up before a start, once one has come again.
LOOK_SECONDS = 30.0

Place = tuple[UUID, str]


class Once:
    """Begins runs, each key of an owner once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys = Gather(self._load_keys)
        self._look_until = 0.0
        self._starting: dict[Place, tuple[bytes, asyncio.Future[StartedRun]]] = {}

    async def begin(
        self, owner: UUID, key: str | None, body_hash: bytes, begin: Callable[[], Awaitable[StartedRun]]
    ) -> StartedRun:
        """Begin, or answer with what the same key began before.

        Raises:
            AlreadyExists: The key was used with another body.
            Unavailable: Others started with this key at the same time.
        """
        if key is None:
            return await begin()
        place = (owner, key)
        under_way = self._starting.get(place)
        if under_way is not None:
            if under_way[0] != body_hash:
                raise _reused(key)
            return await asyncio.shield(under_way[1])
        future: asyncio.Future[StartedRun] = asyncio.get_running_loop().create_future()
        self._starting[place] = (body_hash, future)
        try:
            started = await self._begin(place, body_hash, begin)
            future.set_result(started)
            return started
        except BaseException as fault:
            if not future.done():
                future.set_exception(
                    fault if isinstance(fault, Exception) else Unavailable("the first call was given up")
                )
                future.exception()  # it may be nobody's
            raise
        finally:
            del self._starting[place]

    async def _begin(self, place: Place, body_hash: bytes, begin: Callable[[], Awaitable[StartedRun]]) -> StartedRun:
        # Most keys are new, and the store refuses those that are not. That costs the runs of the same commit a little,
        # so once a key has come again keys are looked up first for a while.
        loop = asyncio.get_running_loop()
        known = await self._known(place, body_hash) if loop.time() < self._look_until else None
        if known is not None:
            return known
        try:
            return await begin()
        except (ResourceExhausted, Unavailable):
            raise
        except (Lost, WfeError) as refusal:
            known = await self._known(place, body_hash)
            if known is None:
                if isinstance(refusal, Lost):
                    raise Unavailable("the start could not be committed; try again") from None
                raise
            self._look_until = loop.time() + LOOK_SECONDS
            return known

    async def _known(self, place: Place, body_hash: bytes) -> StartedRun | None:
        found = await self._keys.get(place)
        if found is None:
            return None
        known_hash, run = found
        if known_hash != body_hash:
            raise _reused(place[1])
        async with self._database.connection() as connection:
            loaded = (await load_runs(connection, [run])).get(run)
        if loaded is None:
            return None
        return StartedRun(
            run_id=run,
            template_id=loaded.template,
            template_name=loaded.template_name,
            template_version=loaded.template_version,
            input=loaded.input,
            labels=loaded.labels,
            created_at=loaded.created_at.timestamp(),
            created_by=loaded.created_by,
            start_at=None if loaded.start_at is None else loaded.start_at.timestamp(),
        )

    async def _load_keys(self, keys: list[Place]) -> dict[Place, tuple[bytes, UUID]]:
        async with self._database.connection() as connection:
            return await load_keys(connection, keys)


def _reused(key: str) -> AlreadyExists:
    return AlreadyExists(f"Idempotency-Key {key} was used with another body", reason="IDEMPOTENCY_KEY_REUSED", key=key)
