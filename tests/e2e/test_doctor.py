"""`wfe doctor` and `wfe admin` on a running engine: all is well, then each thing that is not."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import psycopg
import pytest
from wfe_stack.waiting import wait_for

NOBODY = "00000000-0000-7000-8000-000000000001"
WFE = str(Path(sys.executable).with_name("wfe"))


@pytest.fixture
def wfe(stack):
    """Runs the command on the engine; gives exit status and output."""

    async def run(*arguments, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WFE_")}
        process = await asyncio.create_subprocess_exec(
            WFE,
            "--home",
            str(stack.settings.folder),
            *arguments,
            env={**clean, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode, said.decode()

    return run


def failed(said):
    return set(re.findall(r"^FAIL ((?:ready: )?[^:]+):", said, re.MULTILINE))


async def test_a_healthy_engine(wfe):
    status, said = await wfe("doctor")
    # Tests run without waiting for the disk, and the doctor says so; of everything else it has nothing to say.
    assert failed(said) == {"fsync", "full_page_writes"}, said
    assert status == 1
    parts = ("gateway", "key", "run store", "schema", "ready: executors", "bus", "queue default")
    for part in (*parts, "timers", "gates", "webhooks"):
        assert f"ok   {part}:" in said, said


async def test_what_is_down_is_named_with_what_helps(stack, wfe):
    await stack.kill("executor")
    try:

        async def noticed():
            _, said = await wfe("doctor")
            return said if "ready: executors" in failed(said) else None

        said = await wait_for(noticed, seconds=60)
        assert "no executor is live: start one" in said
    finally:
        await stack.restart("executor")


async def test_a_hold_is_seen_and_released(wfe):
    assert (await wfe("admin", "dispatch", "hold", "--reason", "restored"))[0] == 0
    try:
        _, said = await wfe("doctor")
        assert "dispatch" in failed(said)
        assert "restored" in said
    finally:
        status, said = await wfe("admin", "dispatch", "release")
    assert status == 0
    assert said.startswith("released")


async def test_what_is_late_is_named(stack, wfe):
    """A timer nobody will take up: its run is unknown to every scheduler."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO timers (run_id, no, due_at) VALUES (%s, 1, clock_timestamp() - interval '5 min')", (NOBODY,)
        )
        try:
            _, said = await wfe("doctor")
        finally:
            connection.execute("DELETE FROM timers WHERE run_id = %s", (NOBODY,))
    assert "timers" in failed(said), said


async def test_a_server_that_is_not_there(wfe):
    status, said = await wfe(
        "--url",
        "http://127.0.0.1:9",
        "doctor",
        WFE_DATABASE_URL="postgresql://x@127.0.0.1:9/x",
        WFE_NATS_URL="nats://127.0.0.1:9",
    )
    assert status == 1
    assert {"gateway", "run store", "bus"} <= failed(said), said
