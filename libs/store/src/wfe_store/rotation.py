"""Sealing everything anew with the present key, so that older keys can be forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from wfe_store.pool import Database, fetch_all, fetch_one
from wfe_store.sealing import Keyring, Unreadable, bound_to_hook, bound_to_owner, bound_to_run, bound_to_webhook

#: Rows read at once.
PAGE = 500


@dataclass(slots=True)
class Resealed:
    """What was done.

    Attributes:
        secrets, values: Secrets and sensitive values that were sealed anew.
        signing: Keys of webhooks and secrets of hooks that were.
        unreadable: Of all, those that no key opens; they stay as they are.
    """

    secrets: int = 0
    values: int = 0
    signing: int = 0
    unreadable: int = 0


async def reseal(database: Database, ring: Keyring) -> Resealed:
    """Seal everything with the ring's first key that is sealed with another. Safe to repeat and to break off.

    A row that somebody changes meanwhile is left to them.

    Raises:
        Unavailable: The store is down.
    """
    done = Resealed()
    await _secrets(database, ring, done)
    await _values(database, ring, done)
    await _webhooks(database, ring, done)
    await _hooks(database, ring, done)
    return done


async def left(database: Database, ring: Keyring) -> int:
    """Rows that are not sealed with the ring's first key."""
    async with database.connection() as connection:
        row = await fetch_one(
            connection,
            "SELECT (SELECT count(*) FROM secrets WHERE ciphertext IS NOT NULL AND substring(ciphertext for 12) <> %s)"
            " + (SELECT count(*) FROM sealed_values WHERE substring(ciphertext for 12) <> %s)"
            " + (SELECT count(*) FROM webhook_secrets WHERE substring(ciphertext for 12) <> %s)"
            " + (SELECT count(*) FROM hooks WHERE substring(secret for 12) <> %s)",
            [ring.header] * 4,
        )
    return int(row[0]) if row else 0


async def _secrets(database: Database, ring: Keyring, done: Resealed) -> None:
    after: tuple[UUID, str] = (UUID(int=0), "")
    while True:
        async with database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT owner_id, name, version, ciphertext FROM secrets WHERE replaced_at IS NULL"
                " AND substring(ciphertext for 12) <> %s AND (owner_id, name) > (%s, %s)"
                " ORDER BY owner_id, name LIMIT %s",
                (ring.header, *after, PAGE),
            )
            for owner, name, version, stored in rows:
                bound = bound_to_owner(owner.bytes, name, version)
                try:
                    fresh = ring.seal(bound, ring.open(bound, bytes(stored)))
                except Unreadable:
                    done.unreadable += 1
                    continue
                cursor = await connection.execute(
                    "UPDATE secrets SET ciphertext = %s WHERE owner_id = %s AND name = %s AND version = %s"
                    " AND ciphertext = %s",
                    (fresh, owner, name, version, stored),
                )
                done.secrets += cursor.rowcount
        if len(rows) < PAGE:
            return
        after = rows[-1][:2]


async def _values(database: Database, ring: Keyring, done: Resealed) -> None:
    after: tuple[UUID, str] = (UUID(int=0), "")
    while True:
        async with database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT run_id, name, ciphertext FROM sealed_values WHERE substring(ciphertext for 12) <> %s"
                " AND (run_id, name) > (%s, %s) ORDER BY run_id, name LIMIT %s",
                (ring.header, *after, PAGE),
            )
            for run, name, stored in rows:
                bound = bound_to_run(run.bytes, name)
                try:
                    fresh = ring.seal(bound, ring.open(bound, bytes(stored)))
                except Unreadable:
                    done.unreadable += 1
                    continue
                cursor = await connection.execute(
                    "UPDATE sealed_values SET ciphertext = %s WHERE run_id = %s AND name = %s AND ciphertext = %s",
                    (fresh, run, name, stored),
                )
                done.values += cursor.rowcount
        if len(rows) < PAGE:
            return
        after = rows[-1][:2]


async def _webhooks(database: Database, ring: Keyring, done: Resealed) -> None:
    after: tuple[UUID, UUID] = (UUID(int=0), UUID(int=0))
    while True:
        async with database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT webhook_id, id, ciphertext FROM webhook_secrets WHERE substring(ciphertext for 12) <> %s"
                " AND (webhook_id, id) > (%s, %s) ORDER BY webhook_id, id LIMIT %s",
                (ring.header, *after, PAGE),
            )
            for webhook, key, stored in rows:
                bound = bound_to_webhook(webhook.bytes, key.bytes)
                try:
                    fresh = ring.seal(bound, ring.open(bound, bytes(stored)))
                except Unreadable:
                    done.unreadable += 1
                    continue
                cursor = await connection.execute(
                    "UPDATE webhook_secrets SET ciphertext = %s WHERE webhook_id = %s AND id = %s AND ciphertext = %s",
                    (fresh, webhook, key, stored),
                )
                done.signing += cursor.rowcount
        if len(rows) < PAGE:
            return
        after = rows[-1][:2]


async def _hooks(database: Database, ring: Keyring, done: Resealed) -> None:
    after = UUID(int=0)
    while True:
        async with database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT id, secret FROM hooks WHERE substring(secret for 12) <> %s AND id > %s ORDER BY id LIMIT %s",
                (ring.header, after, PAGE),
            )
            for hook, stored in rows:
                bound = bound_to_hook(hook.bytes)
                try:
                    fresh = ring.seal(bound, ring.open(bound, bytes(stored)))
                except Unreadable:
                    done.unreadable += 1
                    continue
                cursor = await connection.execute(
                    "UPDATE hooks SET secret = %s WHERE id = %s AND secret = %s", (fresh, hook, stored)
                )
                done.signing += cursor.rowcount
        if len(rows) < PAGE:
            return
        after = rows[-1][0]
