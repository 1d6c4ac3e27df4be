"""What an executor that holds a lease gets unsealed, and what nobody gets."""

from __future__ import annotations

import json
import secrets as chance
import uuid
from typing import Any

import pytest
from wfe_bus.messages import SEALED, LeaseRef
from wfe_scheduler.plans import Plans
from wfe_scheduler.seal import Sealer, named_in
from wfe_scheduler.unsealing import Unsealing
from wfe_stack.testing_rows import add_run
from wfe_store.blobs import parts_of, put_part, reference_to
from wfe_store.identity import Identity
from wfe_store.pool import Database
from wfe_store.sealing import Keyring
from wfe_store.secrets import Secrets
from wfe_store.templates import Templates

SOURCE = """
name: secretive
variables: {token: {type: string, sensitive: true}}
steps:
  - id: a
    http:
      url: "https://x.y"
      auth: {bearer: "${{ secrets.TOKEN }}"}
      headers: {T: "${{ vars.token }} ${{ secrets.B }}"}
"""
RING = Keyring([chance.token_bytes(32)])


def placeholder(*names: str) -> dict[str, Any]:
    return {SEALED: [{"secret": name} for name in names]}


class World:
    """One owner with a published template, a run of it, and a step that is leased."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sealer = Sealer(RING)
        self.unsealing = Unsealing(database, Plans(Templates(database)), self.sealer, None)

    async def prepare(self) -> None:
        self.owner = (await Identity(self.database).seed_owner("acme")).owner_id
        self.person = uuid.uuid4()
        templates = Templates(self.database)
        template = await templates.create(self.owner, name="secretive", source=SOURCE)
        await templates.publish(self.owner, template.id, published_by=self.person, source=SOURCE)
        self.run = await add_run(self.database, self.owner, self.person)
        async with self.database.connection() as connection:
            await connection.execute(
                "UPDATE runs SET template_id = %s, template_version = 1 WHERE id = %s", (template.id, self.run)
            )

    async def lease(self, request: Any, *, no: int = 1, held: bool = True) -> LeaseRef:
        async with self.database.connection() as connection:
            await connection.execute(
                "INSERT INTO dispatch (run_id, no, owner_id, path, kind, queue, request, sealed, attempt, max_attempts,"
                " fence, available_at, executor_id, created_at)"
                " VALUES (%s, %s, %s, 'a', 'http', 'default', %s, true, 1, 1, 7, now(), %s, now())",
                (self.run, no, self.owner, json.dumps(request), "e1" if held else None),
            )
        return LeaseRef(run=self.run.bytes, no=no, fence=7)

    async def put(self, name: str, value: str, owner: uuid.UUID | None = None) -> None:
        owner = owner or self.owner
        data = json.dumps(value).encode()
        await Secrets(self.database).put(
            owner, self.person, name, lambda version: self.sealer.seal_secret(owner, name, version, data)
        )


@pytest.fixture
async def world(database: Database) -> World:
    made = World(database)
    await made.prepare()
    return made


async def test_a_lease_gets_what_its_request_names_and_no_more(world: World) -> None:
    await world.put("TOKEN", "one")
    await world.put("TOKEN", "two")
    await world.put("B", "b")
    answer = await world.unsealing.answer(await world.lease({"auth": {"bearer": placeholder("TOKEN")}}))
    assert answer.secrets == {"TOKEN": b'"two"'}, "the newest value"
    assert (answer.missing, answer.stale) == ((), False)


async def test_without_the_lease_or_under_another_fence_there_is_nothing(world: World) -> None:
    await world.put("TOKEN", "one")
    lease = await world.lease(placeholder("TOKEN"))
    for other in (
        LeaseRef(run=lease.run, no=1, fence=6),
        LeaseRef(run=uuid.uuid4().bytes, no=1, fence=7),
        await world.lease(placeholder("TOKEN"), no=2, held=False),
    ):
        answer = await world.unsealing.answer(other)
        assert answer.stale
        assert answer.secrets == {}


async def test_a_request_cannot_ask_for_what_its_template_does_not_name(world: World) -> None:
    await world.put("TOKEN", "one")
    await world.put("OTHER", "must not come out")
    request = {"json": placeholder("OTHER"), "auth": {"bearer": placeholder("TOKEN")}}
    answer = await world.unsealing.answer(await world.lease(request))
    assert answer.missing == ("OTHER",)
    assert "OTHER" not in answer.secrets


async def test_another_owners_secret_of_that_name_is_no_use(world: World) -> None:
    rival = (await Identity(world.database).seed_owner("rival")).owner_id
    await world.put("TOKEN", "theirs", owner=rival)
    answer = await world.unsealing.answer(await world.lease(placeholder("TOKEN")))
    assert (answer.secrets, answer.missing) == ({}, ("TOKEN",))


async def test_what_no_key_opens_is_told_apart(world: World) -> None:
    world.sealer = Sealer(Keyring([chance.token_bytes(32)]))
    await world.put("TOKEN", "sealed with a key that is gone")
    answer = await world.unsealing.answer(await world.lease(placeholder("TOKEN", "B")))
    assert (answer.secrets, answer.missing, answer.unreadable) == ({}, ("B",), ("TOKEN",))


async def test_a_request_that_is_out_of_line_is_looked_at_too(world: World) -> None:
    await world.put("TOKEN", "one")
    request = json.dumps({"a": "x" * 600_000, "b": placeholder("TOKEN")}).encode()
    lease = await world.lease({})
    blob = uuid.uuid4()
    async with world.database.connection() as connection:
        for number, part in enumerate(parts_of(request)):
            assert await put_part(connection, world.run, 1, 7, blob, number, part)
        await connection.execute("UPDATE dispatch SET request = %s", (reference_to(blob, len(request)),))
    assert (await world.unsealing.answer(lease)).secrets == {"TOKEN": b'"one"'}


def test_names_are_found_wherever_they_stand() -> None:
    request = {"a": [{"b": placeholder("X")}, {SEALED: ["text ", {"secret": "Y"}, {"var": "v"}]}], "secret": "Z"}
    assert named_in(json.dumps(request).encode(), "secret") == {"X", "Y"}
