"""Who started a run does not approve it, whatever he started it by: a key, an agent, a schedule, a hook, a parent."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from e2e_runs import path_of, refused, until
from test_schedules import Minute, firings, make
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for

NAMES = itertools.count(1)
ROLES = ("approver", "operator", "author", "admin")
ASKS = "name: started-{n}\nsteps: [{{id: g, approval: {{title: t, approvers: {{groups: [starters]}}, risk: low}}}}]\n"


class World:
    """A person, who is an approver, and his ways to start things."""

    def __init__(self, stack: Any, root: Rest, publish: Any) -> None:
        self.stack, self.root, self.publish = stack, root, publish
        self.calls: list[Rest] = []
        self.me: dict[str, Any] = {}

    async def key_of(self, principal: str) -> Rest:
        """Calls with a new key."""
        made = await self.root.post("/api/v1/keys", {"principal_id": principal})
        self.calls.append(Rest(self.stack.url, made["secret"]))
        return self.calls[-1]

    async def agent(self, kind: str = "agent") -> Rest:
        """Something that acts for the person, and is an approver too."""
        name = f"bot-{self.me['name']}-{next(NAMES)}"
        body = {"name": name, "kind": kind, "roles": ROLES, "acts_for": self.me["id"]}
        made = await self.root.post("/api/v1/principals", body)
        groups = (await self.root.get("/api/v1/groups", limit=200))["groups"]
        starters = next(one["id"] for one in groups if one["name"] == "starters")
        await self.root.put(f"/api/v1/groups/{starters}/members/{made['id']}")
        return await self.key_of(made["id"])

    async def template(self) -> str:
        return str(await self.publish(ASKS.format(n=next(NAMES))))

    async def started(self, caller: Rest) -> str:
        return str((await caller.start({"template_id": await self.template()}))["id"])

    # ---- ways

    async def key(self) -> str:
        return await self.started(await self.key_of(self.me["id"]))

    async def by_agent(self) -> str:
        return await self.started(await self.agent())

    async def by_service(self) -> str:
        return await self.started(await self.agent("service"))

    async def schedule(self) -> str:
        return await self._scheduled(await self.key_of(self.me["id"]))

    async def schedule_of_agent(self) -> str:
        return await self._scheduled(await self.agent())

    async def _scheduled(self, maker: Rest) -> str:
        minute = Minute()
        schedule = await make(maker, await self.template(), minute)
        await minute.has_come(self.stack.database_url, schedule)
        (firing,) = await firings(maker, schedule, "started")
        return str(firing["workflow_id"])

    async def hook(self) -> str:
        maker = await self.key_of(self.me["id"])
        hook = await maker.post("/api/v1/hooks", {"template_id": await self.template(), "scheme": "github"})
        body = b'{"n": 1}'
        signature = hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
        headers = {"x-hub-signature-256": f"sha256={signature}", "content-type": "application/json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.stack.url + hook["path"], data=body, headers=headers) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return str(json.loads(await answer.text())["workflow_id"])

    async def child(self) -> str:
        child = f"started-{next(NAMES)}"
        await self.publish(ASKS.format(n=child.partition("-")[2]))
        parent = await self.publish(f"name: parent-of-{child}\nsteps: [{{id: ask, workflow: {{template: {child}}}}}]\n")
        caller = await self.key_of(self.me["id"])
        run = (await caller.start({"template_id": parent}))["id"]

        async def found() -> str | None:
            events = (await caller.get(path_of(run)))["events"]
            return next((e["data"]["child"] for e in events if e["type"] == "step.waiting"), None)

        return str(await wait_for(found, what="a child run"))

    async def retry_by_another(self) -> str:
        run = await self.key()
        await self.root.post(path_of(run, "cancel"))
        await self.root.post(path_of(run, "retry"))
        return run


@pytest.fixture
async def world(stack, root: Rest, people, publish) -> Any:
    """A person of the group that decides."""
    me = await people("starters", roles=ROLES)
    world = World(stack, root, publish)
    world.me = await me.get("/api/v1/self")
    yield world
    for caller in world.calls:
        await caller.close()


WAYS: tuple[Callable[[World], Awaitable[str]], ...] = (
    World.key, World.by_agent, World.by_service, World.schedule, World.schedule_of_agent, World.hook, World.child,
    World.retry_by_another,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_person_behind_a_run_decides_it_in_no_way(world: World, people, root: Rest, way):
    run = await way(world)

    async def asked() -> dict[str, Any] | None:  # a child begins a moment after the step that waits for it
        found = (await root.get("/api/v1/approvals", workflow_id=run))["approvals"]
        return found[0] if found else None

    gate = await wait_for(asked, what="a gate")
    assert gate is not None
    path = f"/api/v1/approvals/{gate['id']}"
    mine, agents = await world.key_of(world.me["id"]), await world.agent()
    for who in (mine, agents):
        seen = await who.get(path)
        assert (seen["can_decide"], seen["why_not_reason"]) == (False, "SELF_APPROVAL")
        assert (await who.get("/api/v1/approvals", mine=True, workflow_id=run))["approvals"] == []
        for call in (
            who.post(path_of(run, "approvals", gate["id"], "approve")),
            who.post(path_of(run, "approvals", gate["id"], "reject")),
            who.post(f"{path}/decide", {"decision": "approve"}),
            who.post(f"{path}/claim"),
        ):
            refusal = await refused(call)
            assert (refusal.status, refusal.reason) == (403, "SELF_APPROVAL")
        items = [{"approval_id": gate["id"], "digest": gate["digest"]}]
        batch = await who.post("/api/v1/approvals/decide", {"items": items, "decision": "approve"})
        assert [one["reason"] for one in batch["results"]] == ["SELF_APPROVAL"]
        refusal = await refused(who.post(f"{path}/links", {}))
        assert refusal.status == 400, "a link for somebody who could not decide is none"
    other = await people("starters")
    assert (await other.post(f"{path}/decide", {"decision": "approve"}))["status"] == "approved"
    assert (await until(root, run, "completed"))["status"] == "completed"
