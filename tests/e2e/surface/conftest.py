"""An owner of its own for the tests of the API's surface: things of every kind to call with, over REST and gRPC."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest
from wfe_stack.rest import Rest
from wfe_stack.seed import SeedPrincipal, seed

# The modules beside this one can be imported.
sys.path.insert(0, str(Path(__file__).parent))

from calls import Api, Things, make_things
from wfe_engine.kinds.waiting import callback_name
from wfe_scheduler.callbacks import Callbacks
from wfe_store.sealing import read_keys

#: Two people who may do everything: who starts a run may not decide its gate.
ALL = ("viewer", "operator", "author", "approver", "admin", "breakglass")
PEOPLE = (SeedPrincipal("wanda", roles=ALL), SeedPrincipal("wilma", roles=ALL))


@pytest.fixture(scope="session")
async def people(stack) -> dict[str, str]:
    """Keys of wanda and wilma, of an owner that has nothing else."""
    path = stack.settings.folder / "surface.json"
    return await seed(stack.database_url, path, owner="surface", people=PEOPLE)


@pytest.fixture(scope="session")
async def wanda(stack, people) -> AsyncIterator[Rest]:
    """Somebody who may do everything."""
    async with Rest(stack.url, people["wanda"]) as rest:
        yield rest


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """HTTP as it is, without the client's help."""
    connector = aiohttp.TCPConnector(limit=16)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        yield session


@pytest.fixture(scope="session")
async def api(stack, http, people) -> Api:
    """The REST API as wanda, byte by byte."""
    return Api(http, stack.url, people["wanda"])


@pytest.fixture(scope="session")
def token(stack) -> Callable[[str, str], str]:
    """Makes the token of a callback as the engine does: no answer of the API ever tells one."""
    callbacks = Callbacks(read_keys(stack.settings.folder / "seal.key"), "")
    return lambda run, name: callbacks.url(UUID(run), callback_name(name, "")).rpartition("/")[2]


@pytest.fixture(scope="session")
async def new_things(wanda, token) -> Callable[[], Awaitable[Things]]:
    """Makes a run at its gate, and everything else the sample calls name."""
    return lambda: make_things(wanda, token)


@pytest.fixture(scope="session")
async def things(new_things) -> Things:
    """Things nothing is done to: the calls that name them are all refused."""
    return await new_things()


@pytest.fixture(scope="session")
def stranger_key(keys) -> str:
    """A key of the stranger, who is of another owner."""
    return keys["stranger"]
