"""A fresh database for every test, and an owner in it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from wfe_stack.testing import database_template, database_url, postgres_server
from wfe_store.identity import Identity
from wfe_store.pool import Database

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
