"""Rolling updates and drains under load: every process gets SIGTERM while calls and steps are under way."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import aiohttp
import pytest
import yaml
from e2e_load import Load, every_run_completes, template_of
from wfe_gateway.config import GatewaySettings
from wfe_gateway.envoy import command, write_config
from wfe_stack.ports import Ports
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_stack.testing import TEST_SETTINGS
from wfe_stack.waiting import wait_for

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture(scope="module")
async def pair():
    """Two of each service, draining as they would in a cluster."""
    folder = Path(tempfile.mkdtemp(prefix="wfe-pair-"))
    settings = StackSettings(
        folder=folder / "data",
        postgres=TEST_SETTINGS,
        schedulers=2,
        approvals=2,
        executors=2,
        restarts=False,
        drain_seconds=10,
        environment={"WFE_DRAIN_SECONDS": "3", "WFE_GATEWAY_HEALTH_CHECK_SECONDS": "1"},
    )
    async with Stack(settings) as stack:
        yield stack
    shutil.rmtree(folder, ignore_errors=True)


LONG = "name: long\nsteps: [{id: a, call: {handler: sleep, input: {seconds: 25}}}]\n"


@pytest.mark.parametrize("service", ["scheduler", "approvals", "executor"])
async def test_a_rolling_update_fails_no_call_and_loses_no_step(pair, service):
    template = await template_of(pair)
    async with Load(pair, template) as load:
        for part in (service, f"{service}-2"):
            before = load.calls
            await pair.terminate(part)
            await wait_for(lambda before=before: load.calls > before + 20)
            await pair.restart(part)
            # As a rollout does: the next one goes once this one is ready and has been seen to be.
            seen = load.calls
            await wait_for(lambda seen=seen: load.calls > seen + 20)
    assert load.faults == []
    await every_run_completes(pair, load.runs)


def pre_stop():
    """The gateway's preStop command of the manifests."""
    for one in yaml.safe_load_all((DEPLOY / "k8s" / "base" / "gateway.yaml").read_text()):
        if one["kind"] == "Deployment":
            return one["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    raise AssertionError("there is no gateway")


@pytest.fixture
async def gateways(pair, tmp_path):
    """Two more gateways, started as the manifests start Envoy: their URLs, admin ports and processes."""
    ports = Ports()
    numbers = [tuple(ports.reserve() for _ in range(3)) for _ in range(2)]
    ports.release()
    found = []
    for rest, grpc, admin in numbers:
        settings = GatewaySettings(
            rest_port=rest,
            grpc_port=grpc,
            admin=f"127.0.0.1:{admin}",
            scheduler=",".join(pair.service(part) for part in ("scheduler", "scheduler-2")),
            approvals=",".join(pair.service(part) for part in ("approvals", "approvals-2")),
            config_file=tmp_path / f"{rest}.json",
        )
        line = [*command(settings, write_config(settings)), "--drain-time-s", "15"]
        process = await asyncio.create_subprocess_exec(*line, stderr=asyncio.subprocess.DEVNULL)
        found.append((f"http://127.0.0.1:{rest}", admin, process))
    for url, _, _ in found:
        await wait_for(lambda url=url: answers(url))
    yield found
    for _, _, process in found:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def answers(url):
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def test_a_gateway_sends_its_clients_elsewhere_before_it_ends(pair, gateways):
    (first, admin, process), (second, _, _) = gateways
    leaving, over = asyncio.Event(), asyncio.Event()
    faults, served = [], {first: 0, second: 0}
    headers = {"authorization": f"Bearer {pair.keys['sam']}"}

    async def client():
        """Keeps its connection while it may; a new one goes where the Service leads."""
        url = first
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90), headers=headers) as session:
            while not over.is_set():
                try:
                    async with session.get(f"{url}/api/v1/workflows?limit=1") as answer:
                        assert answer.status == 200, answer.status
                        served[url] += 1
                        if leaving.is_set() and answer.headers.get("connection") == "close":
                            url = second
                except (AssertionError, aiohttp.ClientError, TimeoutError) as fault:
                    faults.append(repr(fault)[:200])
                    url = second if leaving.is_set() else first
                await asyncio.sleep(0.02)

    clients = [asyncio.create_task(client()) for _ in range(6)]
    await wait_for(lambda: served[first] > 50)
    # One that waits for the end of a run while the gateway leaves.
    async with Rest(pair.url, pair.keys["sam"]) as sam:
        made = await sam.post("/api/v1/templates", {"source": LONG})
        await sam.post(f"/api/v1/templates/{made['id']}/publish")
        run = (await sam.start({"template_id": made["id"], "input": {}}))["id"]
    async with aiohttp.ClientSession(headers=headers) as session:
        waiting = asyncio.create_task(session.get(f"{first}/api/v1/workflows/{run}?wait_seconds=60"))
        leaving.set()
        shell, option, text = pre_stop()
        stopping = await asyncio.create_subprocess_exec(shell, option, text.replace("9901", str(admin)))
        assert await asyncio.wait_for(stopping.wait(), 110) == 0
        process.terminate()
        await process.wait()
        answer = await waiting
        assert answer.status == 200
        assert (await answer.json())["status"] == "completed"
    seen = served[second]
    await wait_for(lambda: served[second] > seen + 20)
    over.set()
    await asyncio.gather(*clients)
    assert faults == []
