"""Load on an engine while something is done to it."""

from __future__ import annotations

import asyncio

import aiohttp
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for

SOURCE = """
name: rolled
steps:
  - {id: a, call: {handler: sleep, input: {seconds: 0.05}}}
  - {id: b, call: {handler: sleep, input: {seconds: 0.05}}}
  - {id: c, call: {handler: sleep, input: {seconds: 0.05}}}
"""


class Load:
    """Callers that start runs and read lists without a pause, and count what is refused or breaks.

    Attributes:
        calm: Calls since the last one that was.
    """

    def __init__(self, stack, template, callers=4):
        self.stack = stack
        self.template = template
        self.callers = callers
        self.runs = []
        self.calls = 0
        self.faults = []
        self.calm = 0
        self._over = False

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(self.callers)]
        await wait_for(lambda: self.calls > 20)
        return self

    async def __aexit__(self, *_):
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _call(self, number):
        headers = {"authorization": f"Bearer {self.stack.keys['sam']}"}
        inbox = {"authorization": f"Bearer {self.stack.keys['ada']}"}
        timeout = aiohttp.ClientTimeout(total=30)
        # No call is repeated by the client: each one must succeed by itself.
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not self._over:
                try:
                    if number % 2:
                        async with session.get(f"{self.stack.url}/api/v1/approvals", headers=inbox) as answer:
                            assert answer.status == 200, await answer.text()
                    else:
                        body = {"template_id": self.template, "input": {}}
                        url = f"{self.stack.url}/api/v1/workflows"
                        async with session.post(url, json=body, headers=headers) as answer:
                            assert answer.status == 201, await answer.text()
                            self.runs.append((await answer.json())["id"])
                except (AssertionError, aiohttp.ClientError, TimeoutError) as fault:
                    self.faults.append(repr(fault)[:300])
                    self.calm = -1
                self.calm += 1
                self.calls += 1
                await asyncio.sleep(0.01)


async def template_of(stack):
    async with Rest(stack.url, stack.keys["sam"]) as sam:
        known = (await sam.get("/api/v1/templates", name="rolled"))["templates"]
        if known:
            return known[0]["id"]
        made = await sam.post("/api/v1/templates", {"source": SOURCE})
        await sam.post(f"/api/v1/templates/{made['id']}/publish")
        return made["id"]


async def every_run_completes(stack, runs):
    async with Rest(stack.url, stack.keys["sam"]) as sam:
        for run in runs:
            ended = await sam.wait_ended(run, 60)
            assert ended["status"] == "completed", ended
            # Nothing was done twice or lost: one attempt each, whoever ended meanwhile.
            assert [(step["status"], step["attempts"]) for step in ended["steps"]] == [("completed", 1)] * 3
