from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
import wfe_sdk
from wfe_executor.app import Executor

HERE = str(Path(__file__).parent)
# The handlers of the tests can be imported, here and in worker processes.
sys.path.insert(0, HERE)

from executor_fakes import HANDLERS, FakeScheduler, Nats, async_handlers, settings  # noqa: E402


def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Any]:
    """The loop of production."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def _handlers() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", HERE)
    __import__(HANDLERS)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    server = Nats(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def scheduler(bus: Nats) -> AsyncIterator[FakeScheduler]:
    made = FakeScheduler()
    await made.start(bus)
    yield made
    await made.close()


@pytest.fixture
async def start(bus: Nats) -> AsyncIterator[Callable[..., Any]]:
    """Starts executors: await start(sync=True, executor_slots=2)."""
    made: list[Executor] = []

    async def start_one(sync: bool = False, **fields: Any) -> Executor:
        handlers = wfe_sdk.registry if sync else async_handlers()
        executor = Executor(settings(bus, **fields), handlers)
        made.append(executor)
        await executor.start()
        return executor

    yield start_one
    for executor in made:
        await executor.close()
