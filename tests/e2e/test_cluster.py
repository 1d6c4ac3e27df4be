"""Three NATS servers as a cluster, two of each service, and one node of each killed under load."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from e2e_load import Load, every_run_completes, template_of
from wfe_stack.ports import LOOPBACK, Ports
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_stack.testing import TEST_SETTINGS
from wfe_stack.waiting import wait_for


class Bus:
    """A cluster of NATS servers on this machine."""

    def __init__(self, folder: Path) -> None:
        ports = Ports()
        numbers = [(ports.reserve(), ports.reserve()) for _ in range(3)]
        ports.release()
        self.url = ",".join(f"nats://{LOOPBACK}:{client}" for client, _ in numbers)
        self._configs = [folder / f"nats-{number}.conf" for number in range(3)]
        self._processes: list[asyncio.subprocess.Process] = []
        routes = [f"nats://{LOOPBACK}:{route}" for _, route in numbers]
        for path, (client, route) in zip(self._configs, numbers, strict=True):
            cluster = {"name": "wfe", "host": LOOPBACK, "port": route, "routes": routes}
            config = {"host": LOOPBACK, "port": client, "server_name": path.stem, "cluster": cluster}
            path.write_text(json.dumps(config))

    async def __aenter__(self):
        program = str(Path(sys.executable).with_name("nats-server"))
        for path in self._configs:
            log = path.with_suffix(".log")
            line = (program, "--config", str(path), "--log", str(log))
            self._processes.append(await asyncio.create_subprocess_exec(*line))
        for path in self._configs:
            log = path.with_suffix(".log")
            # A server of a cluster is joined once it has a route to each of the others.
            await wait_for(lambda log=log: log.exists() and log.read_text().count("Route connection created") >= 2)
        return self

    async def __aexit__(self, *_):
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def kill(self, number: int) -> None:
        """Kill a server."""
        self._processes[number].kill()
        await self._processes[number].wait()


@pytest.fixture
async def cluster():
    """An engine on such a bus, with short leases."""
    folder = Path(tempfile.mkdtemp(prefix="wfe-cluster-"))
    settings = {
        "WFE_LEASE_SECONDS": "1.5",
        "WFE_SWEEP_SECONDS": "0.2",
        "WFE_GATEWAY_HEALTH_CHECK_SECONDS": "1",
    }
    try:
        async with Bus(folder) as bus:
            stack = Stack(
                StackSettings(
                    folder=folder / "data",
                    postgres=TEST_SETTINGS,
                    nats_url=bus.url,
                    schedulers=2,
                    approvals=2,
                    executors=2,
                    restarts=False,
                    environment=settings,
                    executor_environment={"WFE_HEARTBEAT_SECONDS": "0.2"},
                )
            )
            async with stack:
                yield stack, bus
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_one_node_of_each_may_die_under_load(cluster):
    stack, bus = cluster
    template = await template_of(stack)
    async with Load(stack, template) as load:

        async def goes_on(what):
            """Runs are started and every call is answered, as before."""
            seen = len(load.runs)
            load.calm = 0
            await wait_for(
                lambda: len(load.runs) > seen + 20 and load.calm > 60, seconds=120, what=f"calm after the end of {what}"
            )

        await goes_on("nothing")
        # The first of the list: whoever did not choose another one at random is connected there.
        await bus.kill(0)
        await goes_on("a NATS server")
        for part in ("scheduler", "approvals-2", "executor-2"):
            await stack.kill(part)
            await goes_on(part)
        # What reaches a service that was killed, until the gateway has seen it, is the client's to repeat.
        assert all("SERVICE_UNAVAILABLE" in fault for fault in load.faults), load.faults[:5]
    await every_run_completes(stack, load.runs)
