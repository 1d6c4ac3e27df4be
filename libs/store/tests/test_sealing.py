"""Keys, what is sealed with them, and exchanging them."""

from __future__ import annotations

import os
import secrets as chance
import uuid

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from wfe_engine.errors import NotFound, ResourceExhausted, StateConflict
from wfe_store import secrets as module
from wfe_store.pool import Database, fetch_all
from wfe_store.rotation import left, reseal
from wfe_store.sealing import (
    KeyFile,
    Keyring,
    Unreadable,
    bound_to_hook,
    bound_to_owner,
    bound_to_run,
    bound_to_webhook,
    key_id,
    keys_text,
    read_keys,
)
from wfe_store.secrets import Secrets, load_secrets, present_secrets

OLD, NEW = chance.token_bytes(32), chance.token_bytes(32)
ADA = uuid.uuid4()


def test_what_is_sealed_opens_only_in_its_place_and_with_its_key():
    ring = Keyring([OLD])
    sealed = ring.seal(b"here", b"value")
    assert sealed != ring.seal(b"here", b"value")
    assert b"value" not in sealed
    assert sealed[4:12] == key_id(OLD)
    assert Keyring([NEW, OLD]).open(b"here", sealed) == b"value"
    for other, place in ((ring, b"there"), (Keyring([NEW]), b"here")):
        with pytest.raises(Unreadable):
            other.open(place, sealed)
    with pytest.raises(Unreadable):
        ring.open(b"here", sealed[:-1])


def test_what_was_sealed_before_keys_had_ids_still_opens():
    nonce = os.urandom(12)
    before = nonce + AESGCM(OLD).encrypt(nonce, b"value", b"here")
    assert Keyring([NEW, OLD]).open(b"here", before) == b"value"


def test_places_do_not_overlap():
    one = uuid.uuid4().bytes
    assert len({bound_to_run(one, "a"), bound_to_owner(one, "a", 1), bound_to_owner(one, "a", 2)}) == 3


def test_a_key_file_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "seal.key"
    path.write_text(keys_text([OLD]))
    file = KeyFile(path)
    fresh = Keyring([NEW, OLD]).seal(b"here", b"value")
    with pytest.raises(Unreadable):
        file.open(b"here", fresh)
    path.write_text(keys_text([NEW, OLD]))
    assert file.open(b"here", fresh) == b"value", "a key that has just come is looked for at once"
    assert file.seal(b"here", b"x").startswith(Keyring([NEW]).header)
    path.write_text("nonsense")
    assert file.ring(now=True).ids == (key_id(NEW), key_id(OLD)), "a file being written harms nobody"


@pytest.mark.parametrize("text", ["", "\n", "abc", "AAAA\n", "é"])
def test_files_that_hold_no_keys(tmp_path, text):
    path = tmp_path / "seal.key"
    path.write_text(text)
    with pytest.raises(ValueError):
        read_keys(path)


async def put(database: Database, owner: uuid.UUID, ring: Keyring, name: str, value: bytes, **more: object) -> object:
    def seal(version: int) -> bytes:
        return ring.seal(bound_to_owner(owner.bytes, name, version), value)

    return await Secrets(database).put(owner, ADA, name, seal, **more)


async def test_versions_go_up_and_only_the_newest_has_a_value(database: Database, owner_id, other_owner_id):
    ring, store = Keyring([OLD]), Secrets(database)
    await put(database, owner_id, ring, "A", b"one")
    second = await put(database, owner_id, ring, "A", b"two", expected=1)
    assert [version.version for version in second.versions] == [2, 1]
    with pytest.raises(StateConflict, match="has version 2, not 0"):
        await put(database, owner_id, ring, "A", b"x", expected=0)
    async with database.connection() as connection:
        kept = await fetch_all(connection, "SELECT version, ciphertext IS NULL FROM secrets ORDER BY version")
        assert kept == [(1, True), (2, False)]
        ((version, stored),) = (await load_secrets(connection, owner_id, ["A", "B"])).values()
        assert ring.open(bound_to_owner(owner_id.bytes, "A", version), stored) == b"two"
        assert await load_secrets(connection, other_owner_id, ["A"]) == {}
        assert await present_secrets(connection, owner_id, ["A", "B"]) == {"A"}
    assert (await store.list(other_owner_id, limit=9, offset=0)) == ([], 0)
    with pytest.raises(NotFound):
        await store.delete(other_owner_id, "A")
    assert (await store.delete(owner_id, "A")).versions == second.versions
    assert (await store.list(owner_id, limit=9, offset=0)) == ([], 0)


async def test_an_owner_has_only_so_many(database: Database, owner_id, monkeypatch):
    monkeypatch.setattr(module, "MOST_SECRETS", 1)
    await put(database, owner_id, Keyring([OLD]), "A", b"1")
    await put(database, owner_id, Keyring([OLD]), "A", b"2")
    with pytest.raises(ResourceExhausted):
        await put(database, owner_id, Keyring([OLD]), "B", b"1")


async def test_everything_is_sealed_anew_and_what_no_key_opens_is_told(database: Database, owner_id, monkeypatch):
    monkeypatch.setattr("wfe_store.rotation.PAGE", 2)
    run, nonce, bound = uuid.uuid4(), os.urandom(12), None
    for at in range(5):
        await put(database, owner_id, Keyring([OLD]), f"S{at}", b"secret")
    bound = bound_to_run(run.bytes, "token")
    legacy = nonce + AESGCM(OLD).encrypt(nonce, b"sensitive", bound)
    lost = Keyring([chance.token_bytes(32)]).seal(bound_to_run(run.bytes, "lost"), b"x")
    async with database.connection() as connection:
        for name, stored in (("token", legacy), ("lost", lost)):
            await connection.execute("INSERT INTO sealed_values VALUES (%s, %s, %s)", (run, name, stored))
    ring = Keyring([NEW, OLD])
    assert await left(database, ring) == 7
    done = await reseal(database, ring)
    assert (done.secrets, done.values, done.unreadable) == (5, 1, 1)
    assert await left(database, ring) == 1
    done = await reseal(database, ring)
    assert (done.secrets, done.values, done.unreadable) == (0, 0, 1), "safe to repeat"
    only = Keyring([NEW])
    async with database.connection() as connection:
        for name, (version, stored) in (await load_secrets(connection, owner_id, [f"S{n}" for n in range(5)])).items():
            assert only.open(bound_to_owner(owner_id.bytes, name, version), stored) == b"secret"
        ((stored,),) = await fetch_all(connection, "SELECT ciphertext FROM sealed_values WHERE name = 'token'")
        assert only.open(bound, bytes(stored)) == b"sensitive"


async def test_the_keys_of_webhooks_and_hooks_are_sealed_anew(database: Database, owner_id, monkeypatch):
    monkeypatch.setattr("wfe_store.rotation.PAGE", 2)
    old, webhook = Keyring([OLD]), uuid.uuid4()
    keys, hooks = [uuid.uuid4() for _ in range(3)], [uuid.uuid4() for _ in range(3)]
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO webhooks (id, owner_id, name, url, event_types, created_by)"
            " VALUES (%s, %s, '', 'https://example.com', '{*}', %s)",
            (webhook, owner_id, ADA),
        )
        for key in keys:
            sealed = old.seal(bound_to_webhook(webhook.bytes, key.bytes), b"signing")
            await connection.execute(
                "INSERT INTO webhook_secrets (webhook_id, id, kind, ciphertext) VALUES (%s, %s, 'v1', %s)",
                (webhook, key, sealed),
            )
        for hook in hooks:
            await connection.execute(
                "INSERT INTO hooks (id, owner_id, name, scheme, template_id, secret, created_by)"
                " VALUES (%s, %s, '', 'github', %s, %s, %s)",
                (hook, owner_id, uuid.uuid4(), old.seal(bound_to_hook(hook.bytes), b"calling"), ADA),
            )
    ring, only = Keyring([NEW, OLD]), Keyring([NEW])
    assert await left(database, ring) == 6
    done = await reseal(database, ring)
    assert (done.signing, done.unreadable, await left(database, ring)) == (6, 0, 0)
    assert (await reseal(database, ring)).signing == 0
    async with database.connection() as connection:
        for key, stored in await fetch_all(connection, "SELECT id, ciphertext FROM webhook_secrets"):
            assert only.open(bound_to_webhook(webhook.bytes, key.bytes), bytes(stored)) == b"signing"
        for hook, stored in await fetch_all(connection, "SELECT id, secret FROM hooks"):
            assert only.open(bound_to_hook(hook.bytes), bytes(stored)) == b"calling"
