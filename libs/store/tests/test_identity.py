"""Owners, principals, groups, keys, and the look-ups of authentication."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from datetime import timedelta

import pytest
from wfe_engine.errors import AlreadyExists, NotFound, StateConflict
from wfe_store.identity import Identity, SeedPrincipal
from wfe_store.keys import Fresh, Keys
from wfe_store.pool import Database, fetch_one


def fresh() -> Fresh:
    return Fresh(secrets.token_hex(4), secrets.token_bytes(32))


@pytest.fixture
def identity(database: Database) -> Identity:
    return Identity(database)


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


async def test_seeding_makes_what_is_missing_and_leaves_the_rest(identity: Identity) -> None:
    people = [
        SeedPrincipal("ada", roles=("approver",), groups=("editors",)),
        SeedPrincipal("bot", kind="service", roles=("operator",)),
    ]
    first, second = await asyncio.gather(identity.seed_owner("acme", people), identity.seed_owner("acme", people))
    assert first == second
    changed = await identity.seed_owner("acme", [SeedPrincipal("ada", roles=("admin",), groups=("legal",))])
    assert changed.owner_id == first.owner_id
    ada = await identity.get_principal(first.owner_id, first.principals["ada"])
    assert (ada.roles, ada.groups, ada.owner) == (("approver",), ("editors", "legal"), "acme")


async def test_names_and_subjects_are_unique_within_an_owner(
    identity: Identity, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    await identity.create_principal(owner_id, name="ada", kind="person", roles=[], subject="https://idp|1")
    await identity.create_principal(other_owner_id, name="ada", kind="person", roles=[], subject="https://idp|1")
    with pytest.raises(AlreadyExists) as name:
        await identity.create_principal(owner_id, name="ada", kind="person", roles=[])
    with pytest.raises(AlreadyExists) as subject:
        await identity.create_principal(owner_id, name="eve", kind="person", roles=[], subject="https://idp|1")
    assert (name.value.reason, subject.value.reason) == ("PRINCIPAL_NAME_TAKEN", "SUBJECT_TAKEN")
    await identity.create_group(owner_id, name="editors")
    with pytest.raises(AlreadyExists):
        await identity.create_group(owner_id, name="editors")


async def test_groups_have_members_of_their_own_owner_only(
    identity: Identity, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    ada = await identity.create_principal(owner_id, name="ada", kind="person", roles=["approver"])
    eve = await identity.create_principal(other_owner_id, name="eve", kind="person", roles=["approver"])
    editors = await identity.create_group(owner_id, name="editors")
    await identity.create_group(owner_id, name="legal")
    assert [m.name for m in (await identity.add_member(owner_id, editors.id, ada.id)).members] == ["ada"]
    assert [m.name for m in (await identity.add_member(owner_id, editors.id, ada.id)).members] == ["ada"]
    for owner, group, principal in [
        (owner_id, editors.id, eve.id),
        (other_owner_id, editors.id, eve.id),
        (owner_id, uuid.uuid4(), ada.id),
    ]:
        with pytest.raises(NotFound):
            await identity.add_member(owner, group, principal)
    with pytest.raises(NotFound):
        await identity.remove_member(other_owner_id, editors.id, ada.id)
    page = await identity.list_groups(owner_id, limit=9, offset=0)
    assert [(g.name, len(g.members)) for g in page.items] == [("editors", 1), ("legal", 0)]
    assert (await identity.get_principal(owner_id, ada.id)).groups == ("editors",)
    assert (await identity.remove_member(owner_id, editors.id, ada.id)).members == ()
    assert (await identity.remove_member(owner_id, editors.id, ada.id)).members == ()


async def test_principals_are_listed_by_name_within_the_owner(
    identity: Identity, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    for name in ("cyd", "ada", "bob"):
        await identity.create_principal(owner_id, name=name, kind="person", roles=["viewer"])
    page = await identity.list_principals(owner_id, limit=2, offset=0)
    assert ([p.name for p in page.items], page.total) == (["ada", "bob"], 3)
    assert (await identity.list_principals(other_owner_id, limit=2, offset=0)).total == 0
    with pytest.raises(NotFound):
        await identity.get_principal(other_owner_id, page.items[0].id)


async def test_a_key_lives_from_creation_through_rotation_to_revocation(
    identity: Identity, keys: Keys, owner_id: uuid.UUID
) -> None:
    ada = await identity.create_principal(owner_id, name="ada", kind="person", roles=["viewer", "approver"])
    one = fresh()
    made = await keys.create(owner_id, ada.id, one, name="laptop", roles=["viewer"], lifetime=timedelta(days=30))
    assert (made.id, made.roles, made.last_used_at) == (one.id, ("viewer",), None)
    assert made.expires_at is not None

    next_one = await keys.rotate(owner_id, one.id, fresh(), overlap=timedelta(hours=1))
    assert (next_one.replaces, next_one.name, next_one.roles) == (one.id, "laptop", ("viewer",))
    assert next_one.expires_at is not None
    assert abs((next_one.expires_at - next_one.created_at) - timedelta(days=30)) < timedelta(seconds=1)
    old = await keys.find_key(one.id)
    assert old is not None
    assert old.expires_at is not None
    assert abs(old.expires_at - next_one.created_at - timedelta(hours=1)) < timedelta(seconds=5)
    with pytest.raises(StateConflict):
        await keys.rotate(owner_id, one.id, fresh(), overlap=timedelta(0))

    revoked = await keys.revoke(owner_id, next_one.id)
    assert revoked.revoked_at is not None
    assert (await keys.revoke(owner_id, next_one.id)).revoked_at == revoked.revoked_at
    with pytest.raises(StateConflict):
        await keys.rotate(owner_id, next_one.id, fresh(), overlap=timedelta(0))
    listed = await keys.list(owner_id, principal_id=ada.id, limit=9, offset=0)
    assert [k.id for k in listed.items] == [next_one.id, one.id]


async def test_rotating_never_lengthens_a_key(identity: Identity, keys: Keys, owner_id: uuid.UUID) -> None:
    ada = await identity.create_principal(owner_id, name="ada", kind="person", roles=[])
    made = await keys.create(owner_id, ada.id, fresh(), lifetime=timedelta(minutes=1))
    await keys.rotate(owner_id, made.id, fresh(), overlap=timedelta(days=7))
    old = await keys.find_key(made.id)
    assert old is not None
    assert old.expires_at == made.expires_at


async def test_rotating_twice_at_once_makes_one_successor(identity: Identity, keys: Keys, owner_id: uuid.UUID) -> None:
    ada = await identity.create_principal(owner_id, name="ada", kind="person", roles=[])
    made = await keys.create(owner_id, ada.id, fresh())
    done = await asyncio.gather(
        *(keys.rotate(owner_id, made.id, fresh(), overlap=timedelta(hours=1)) for _ in range(6)),
        return_exceptions=True,
    )
    assert sum(not isinstance(answer, Exception) for answer in done) == 1
    assert (await keys.list(owner_id, limit=9, offset=0)).total == 2


async def test_reissuing_revokes_the_keys_of_that_name_alone(
    identity: Identity, keys: Keys, owner_id: uuid.UUID
) -> None:
    ada = await identity.create_principal(owner_id, name="ada", kind="person", roles=[])
    lost = await keys.create(owner_id, ada.id, fresh(), name="seed")
    kept = await keys.create(owner_id, ada.id, fresh(), name="laptop")
    await keys.reissue(owner_id, ada.id, fresh(), name="seed")
    found_lost, found_kept = await keys.find_key(lost.id), await keys.find_key(kept.id)
    assert found_lost is not None
    assert found_lost.revoked_at is not None
    assert found_kept is not None
    assert found_kept.revoked_at is None


async def test_another_owners_key_is_a_missing_one(
    identity: Identity, keys: Keys, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    ada = await identity.create_principal(owner_id, name="ada", kind="person", roles=[])
    made = await keys.create(owner_id, ada.id, fresh())
    for call in (
        keys.revoke(other_owner_id, made.id),
        keys.rotate(other_owner_id, made.id, fresh(), overlap=timedelta(0)),
        keys.create(other_owner_id, ada.id, fresh()),
        keys.reissue(other_owner_id, ada.id, fresh(), name=""),
    ):
        with pytest.raises(NotFound):
            await call
    found = await keys.find_key(made.id)
    assert found is not None
    assert found.revoked_at is None
    assert (await keys.list(other_owner_id, limit=9, offset=0)).total == 0


async def test_a_key_is_found_with_everything_authentication_needs(
    identity: Identity, keys: Keys, owner_id: uuid.UUID
) -> None:
    ada = await identity.create_principal(owner_id, name="ada", kind="agent", roles=["viewer", "approver"])
    group = await identity.create_group(owner_id, name="editors")
    await identity.add_member(owner_id, group.id, ada.id)
    wide, narrow, one, two = fresh(), fresh(), None, None
    await keys.create(owner_id, ada.id, wide)
    await keys.create(owner_id, ada.id, narrow, roles=["viewer", "admin"])
    one, two = await keys.find_key(wide.id), await keys.find_key(narrow.id)
    assert one is not None
    assert two is not None
    assert (one.owner, one.principal, one.kind, one.hash) == ("acme", "ada", "agent", wide.hash)
    assert one.roles == {"viewer", "approver"}
    assert one.groups == {"editors"}
    assert two.roles == {"viewer"}, "a key never has a role its principal lacks"
    assert await keys.find_key("unknown1") is None


async def test_the_last_use_is_noted_at_most_once_a_minute(
    identity: Identity, keys: Keys, database: Database, owner_id: uuid.UUID
) -> None:
    ada = await identity.create_principal(owner_id, name="ada", kind="person", roles=[])
    made = await keys.create(owner_id, ada.id, fresh())

    async def last_used() -> object:
        async with database.connection() as connection:
            row = await fetch_one(connection, "SELECT last_used_at FROM api_keys WHERE id = %s", (made.id,))
        return None if row is None else row[0]

    await keys.find_key(made.id)
    first = await last_used()
    assert first is not None
    await keys.find_key(made.id)
    assert await last_used() == first
    async with database.connection() as connection:
        await connection.execute("UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds'")
    await keys.find_key(made.id)
    assert await last_used() > first


async def test_subjects_are_found_within_their_owner(
    identity: Identity, keys: Keys, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    await identity.create_principal(owner_id, name="ada", kind="person", roles=["viewer"], subject="https://idp|1")
    found = await keys.find_subject("https://idp|1", "acme")
    assert found is not None
    assert (found.principal, found.owner_id, found.roles) == ("ada", owner_id, {"viewer"})
    assert await keys.find_subject("https://idp|1", "rival") is None
    assert await keys.find_subject("https://idp|2", "acme") is None


async def test_unknown_subjects_are_added_once_and_without_roles(
    identity: Identity, keys: Keys, owner_id: uuid.UUID
) -> None:
    await identity.create_principal(owner_id, name="ada", kind="person", roles=["admin"])
    made = await asyncio.gather(*(keys.ensure_subject("https://idp|7", "acme", "ada") for _ in range(6)))
    assert len({found.principal_id for found in made if found is not None}) == 1
    assert made[0] is not None
    assert (made[0].principal, made[0].roles) == ("https://idp|7", frozenset()), "ada's name and roles stay hers"
    assert await keys.ensure_subject("https://idp|7", "nobody", "ada") is None
