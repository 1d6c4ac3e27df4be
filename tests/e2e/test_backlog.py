"""Everything comes back at once: executors were gone for a while, and what waited for them does not run them over."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from aiohttp import web
from wfe_stack.rest import Rest
from wfe_stack.seed import seed

from .conftest import STRANGER, engine

SLOTS = 8
MANY, FEW = 120, 6
SOURCE = """
name: {name}
variables: {{url: {{type: string, required: true}}}}
steps:
  - {{id: call, http: {{method: POST, url: "${{{{ vars.url }}}}/{name}", json: {{}}}}}}
"""


class Target:
    """What the steps call: counts who is here at the same time, and in which order they came."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.here = 0
        self.most = 0
        self.url = ""

    async def __aenter__(self) -> Target:
        app = web.Application()
        app.router.add_post("/{name}", self._called)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _called(self, request: web.Request) -> web.Response:
        self.order.append(request.match_info["name"])
        self.here += 1
        self.most = max(self.most, self.here)
        try:
            # Long enough for all that are let in to meet here.
            await asyncio.sleep(0.05)
        finally:
            self.here -= 1
        return web.json_response({})


async def started(rest: Rest, name: str, url: str, count: int) -> list[str]:
    """Runs of a template of that name."""
    template = await rest.post("/api/v1/templates", {"source": SOURCE.format(name=name)})
    await rest.post(f"/api/v1/templates/{template['id']}/publish")
    body = {"template_id": template["id"], "input": {"url": url}}
    return [run["id"] for run in await asyncio.gather(*(rest.start(body) for _ in range(count)))]


@pytest.mark.slow
async def test_a_backlog_is_worked_off_slot_by_slot_and_owners_in_turn(request):
    slots = {"WFE_EXECUTOR_SLOTS": str(SLOTS), "WFE_HEARTBEAT_SECONDS": "0.5"}
    async with Target() as target, engine(request, "backlog", executor_environment=slots) as stack:
        strange = await seed(stack.database_url, stack.settings.folder / "more.json", owner="other", people=(STRANGER,))
        async with Rest(stack.url, stack.keys["sam"]) as sam, Rest(stack.url, strange["stranger"]) as other:
            await stack.terminate("executor")
            # The one is there long before the other.
            many = await started(sam, "many", target.url, MANY)
            few = await started(other, "few", target.url, FEW)
            assert target.order == []
            await stack.restart("executor")
            begun = await started(sam, "later", target.url, 1)
            for rest, runs in ((other, few), (sam, many + begun)):
                for run in runs:
                    assert (await rest.wait_ended(run, 60))["status"] == "completed"
    assert Counter(target.order) == {"many": MANY, "few": FEW, "later": 1}
    assert target.most == SLOTS
    last = len(target.order) - target.order[::-1].index("few")
    assert last <= 2 * FEW + 2 * SLOTS, "the few had to wait for the many"
