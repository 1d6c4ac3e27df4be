"""API keys: shown once, rotated with an overlap, revoked everywhere within five seconds, and never more than theirs."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest
from e2e_runs import moment, path_of, refused
from e2e_store import Store
from wfe_stack.rest import Refused, Rest

REVOKED_SECONDS = 5.0
#: One call that a scheduler answers, and one of the approvals service.
PLACES = ("/api/v1/workflows", "/api/v1/self")

GATE = '{title: "Go on?", approvers: {groups: [editors]}}'


async def works(stack, key: str) -> list[bool]:
    """Whether the key is let in, at each of PLACES."""
    found = []
    async with Rest(stack.url, key) as caller:
        for place in PLACES:
            try:
                await caller.get(place)
                found.append(True)
            except Refused as refusal:
                if (refusal.status, refusal.reason) != (401, "UNAUTHENTICATED"):
                    raise
                found.append(False)
    return found


async def stops(stack, key: str, since: float) -> float:
    """Seconds from a moment until the key is let in nowhere, used all the time meanwhile."""
    while any(await works(stack, key)):
        assert time.time() - since < 2 * REVOKED_SECONDS, "the key still works"
        await asyncio.sleep(0.05)
    return time.time() - since


async def test_a_key_is_shown_once_and_kept_as_a_hash(stack, root: Rest, store: Store):
    made = await root.post("/api/v1/keys", {"name": "once"})
    assert await works(stack, made["secret"]) == [True, True]
    listed = (await root.get("/api/v1/keys", limit=200))["keys"]
    assert made["id"] in [key["id"] for key in listed]
    assert {key.get("secret", "") for key in listed} == {""}
    secret = made["secret"].split("_")[2]
    assert secret not in json.dumps(listed)
    assert secret.encode() not in await store.dump()
    for log in (stack.settings.folder / "logs").iterdir():
        assert secret not in log.read_text(errors="replace"), log.name


async def test_rotation_overlaps_and_revocation_is_soon_everywhere(stack, root: Rest):
    made = [await root.post("/api/v1/keys", {"name": name}) for name in ("rotated", "revoked", "at once", "short")]
    rotated, revoked, at_once, _ = made
    assert [await works(stack, key["secret"]) for key in made] == [[True, True]] * 4

    successor = await root.post(f"/api/v1/keys/{rotated['id']}/rotate", {"overlap_seconds": 2})
    rotated_at = time.time()
    assert successor["replaces"] == rotated["id"]
    assert successor["secret"] != rotated["secret"]
    assert await works(stack, successor["secret"]) == [True, True]
    assert await works(stack, rotated["secret"]) == [True, True], "both work in the overlap"
    refusal = await refused(root.post(f"/api/v1/keys/{rotated['id']}/rotate"))
    assert (refusal.status, refusal.body["code"]) == (409, 9)

    replaced = await root.post(f"/api/v1/keys/{at_once['id']}/rotate", {"overlap_seconds": 0})
    at_once_at = time.time()
    answer = await root.post(f"/api/v1/keys/{revoked['id']}/revoke")
    revoked_at = time.time()
    assert moment(answer["revoked_at"]) == pytest.approx(revoked_at, abs=5)
    took = await asyncio.gather(
        stops(stack, revoked["secret"], revoked_at),
        stops(stack, at_once["secret"], at_once_at),
        stops(stack, rotated["secret"], rotated_at + 2),
    )
    print(f"\na revoked key worked for {took[0]:.2f} s more, one rotated without overlap {took[1]:.2f} s")
    assert max(took) < REVOKED_SECONDS
    assert await works(stack, successor["secret"]) == [True, True]
    assert await works(stack, replaced["secret"]) == [True, True]
    # For good: nothing makes it work again.
    assert (await root.post(f"/api/v1/keys/{revoked['id']}/revoke"))["revoked_at"] == answer["revoked_at"]
    assert (await refused(root.post(f"/api/v1/keys/{revoked['id']}/rotate"))).status == 409


async def test_a_watch_ends_soon_after_its_key(stack, root: Rest, start):
    run = await start(f"name: e2e-watched-by-key\nsteps:\n  - {{id: gate, approval: {GATE}}}\n")
    key = await root.post("/api/v1/keys", {"name": "watching"})
    headers = {"authorization": f"Bearer {key['secret']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{stack.url}{path_of(run['id'], 'watch')}") as answer,
    ):
        assert (await answer.content.readline()).startswith(b"data:")
        await root.post(f"/api/v1/keys/{key['id']}/revoke")
        revoked_at = time.time()
        await asyncio.wait_for(answer.content.read(), 2 * REVOKED_SECONDS)
        took = time.time() - revoked_at
    print(f"\na watch went on for {took:.2f} s after its key was revoked")
    assert took < REVOKED_SECONDS
    assert (await root.get(path_of(run["id"])))["status"] == "waiting_approval"


async def test_a_key_is_narrower_than_its_principal_and_ends(stack, root: Rest, store: Store):
    refusal = await refused(root.post("/api/v1/keys", {"roles": ["viewer"]}))
    assert (refusal.status, [each.field for each in refusal.violations]) == (400, ["roles"])
    principal = await root.post("/api/v1/principals", {"name": "narrowed", "roles": ["viewer", "operator"]})
    key = await root.post(
        "/api/v1/keys", {"principal_id": principal["id"], "roles": ["viewer"], "expires_in_seconds": 2}
    )
    async with Rest(stack.url, key["secret"]) as narrowed:
        assert (await narrowed.get("/api/v1/workflows"))["limit"] == 50
        refusal = await refused(narrowed.post("/api/v1/workflows", {"template_id": principal["id"]}))
        assert (refusal.status, refusal.reason) == (403, "ROLE_REQUIRED")
    late = await stops(stack, key["secret"], moment(key["expires_at"]))
    assert -1 < late < 1


async def test_keys_of_another_owner_are_missing(stack, root: Rest, stranger: Rest):
    made = await root.post("/api/v1/keys", {"name": "mine"})
    for what in ("rotate", "revoke"):
        assert (await refused(stranger.post(f"/api/v1/keys/{made['id']}/{what}"))).status == 404
    principal = (await root.get("/api/v1/self"))["id"]
    assert (await refused(stranger.post("/api/v1/keys", {"principal_id": principal}))).status == 404
    assert made["id"] not in [key["id"] for key in (await stranger.get("/api/v1/keys", limit=200))["keys"]]
    assert await works(stack, made["secret"]) == [True, True]
