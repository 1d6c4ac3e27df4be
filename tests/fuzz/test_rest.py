"""A fixed part of `make fuzz`: generated calls of the whole API over REST, and torn bytes over gRPC."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wfe_gateway.api import bindings
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_stack.testing import TEST_SETTINGS

from tools.fuzz import wire
from tools.fuzz.install import install
from tools.fuzz.logs import unexpected
from tools.fuzz.rest import KEYS, identities, schemathesis

SEED = 20
#: Without the phase that follows links: it takes as long as the rest and finds what is given by the others.
SHORT = ("--phases", "coverage,fuzzing")


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[tuple[Stack, dict[str, str | None]]]:
    folder = Path(tempfile.mkdtemp(prefix="wfe-fuzz-"))
    folder.chmod(0o755)
    try:
        settings = StackSettings(folder=folder / "data", postgres=TEST_SETTINGS, restarts=False)
        async with Stack(settings) as stack:
            yield stack, await identities(stack)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("who", ["nobody", "all"])
async def test_generated_calls_over_rest(running, who: str):
    stack, keys = running
    await asyncio.to_thread(install)
    cases, well, said = await schemathesis(stack, who, keys[who], 1, SEED, *KEYS, *SHORT)
    assert well, said[-5_000:]
    assert cases > 10 * len(list(bindings()))
    assert unexpected(stack.settings.folder / "logs") == []


async def test_torn_bytes_over_grpc(running):
    stack, keys = running
    targets = {"gateway": stack.grpc, "scheduler": stack.service("scheduler"), "approvals": stack.service("approvals")}
    cases = 2 * len(keys) * len(list(bindings()))
    sent, faults = await wire.fuzz(targets, keys, cases, SEED)
    assert faults == []
    assert sent == cases
    assert unexpected(stack.settings.folder / "logs") == []
