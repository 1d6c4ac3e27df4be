"""A fresh database for every test, and an owner in it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from wfe_stack.testing import database_template, database_url, postgres_server
from wfe_stack.testing_rows import add_gate, add_run
from wfe_store.gates import Gates
from wfe_store.identity import Identity
from wfe_store.pool import Database

#: Principal behind the runs of `open_gate`.
STARTER = uuid.UUID(int=11)

__all__ = ["database_template", "database_url", "postgres_server"]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, name="wfe-test", size=8)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def owner_id(database: Database) -> uuid.UUID:
    return (await Identity(database).seed_owner("acme")).owner_id


@pytest.fixture
async def other_owner_id(database: Database) -> uuid.UUID:
    return (await Identity(database).seed_owner("rival")).owner_id


@pytest.fixture
def gates(database: Database) -> Gates:
    return Gates(database)


@pytest.fixture
async def run_id(database: Database, owner_id: uuid.UUID) -> uuid.UUID:
    return await add_run(database, owner_id, STARTER)


@pytest.fixture
def open_gate(database: Database, owner_id: uuid.UUID, run_id: uuid.UUID) -> Callable[..., Awaitable[uuid.UUID]]:
    async def add(**more: object) -> uuid.UUID:
        return await add_gate(database, owner_id, run_id, STARTER, **more)

    return add
