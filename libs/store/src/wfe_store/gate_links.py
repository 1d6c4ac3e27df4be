"""One-time links to gates: for one person, one payload, and a while. Only a token's hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
from wfe_engine.errors import NotFound, StateConflict

from wfe_store.gate_decide import person_of
from wfe_store.gate_policy import Decider
from wfe_store.pool import Database, fetch_one

_decode = msgspec.json.decode
#: What a token begins with, so that scanners of secrets know it.
PREFIX = "wfl_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link, as its token finds it.

    Attributes:
        hash: Of the token; its key.
        person: Whom it is for, with the roles and groups of now.
        digest: Of what it was made for.
        used_for: The vote it was used for; empty while it was not.
        over: It has expired.
    """

    id: UUID
    hash: bytes
    owner_id: UUID
    gate_id: UUID
    run_id: UUID
    person: Decider
    digest: str
    expires_at: datetime
    used_for: str
    over: bool

    def dead(self, digest: str) -> StateConflict | None:
        """Why it does not work any more, for a gate that has that digest now; None when it does."""
        if self.over:
            return StateConflict("the link has expired", reason="LINK_EXPIRED", link_id=self.id)
        if digest != self.digest:
            return StateConflict(
                "what is to be approved has changed since the link was made", reason="LINK_STALE", link_id=self.id
            )
        return None


def hashed(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


class Links:
    """The links of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def issue(
        self, owner_id: UUID, gate_id: UUID, run_id: UUID, *, to: UUID, digest: str, by: UUID, lasts: timedelta
    ) -> tuple[UUID, str, datetime]:
        """Make a link. Returns its id, its token, which nobody can find again, and when it expires."""
        token = PREFIX + secrets.token_urlsafe(32)
        link_id = uuid4()
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                "INSERT INTO gate_links (hash, id, gate_id, run_id, owner_id, principal_id, digest, created_by,"
                " expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp() + %s) RETURNING expires_at",
                (hashed(token), link_id, gate_id, run_id, owner_id, to, digest, by, lasts),
            )
        assert row is not None
        return link_id, token, row[0]

    async def find(self, token: str) -> Link:
        """The link of a token.

        Raises:
            NotFound: There is none, or the person it is for cannot call any more.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                "SELECT l.id, l.hash, l.owner_id, l.gate_id, l.run_id, json_build_array(p.id, p.name, p.kind, p.roles,"
                " ARRAY(SELECT n.name FROM group_members m JOIN groups n ON n.id = m.group_id"
                " WHERE m.principal_id = p.id)), l.digest, l.expires_at, l.used_for, l.expires_at <= clock_timestamp()"
                " FROM gate_links l JOIN principals p ON p.id = l.principal_id AND p.disabled_at IS NULL"
                " WHERE l.hash = %s",
                (hashed(token),),
            )
        if row is None:
            raise NotFound("there is no such link")
        link_id, key, owner, gate, run, person, digest, expires, used, over = row
        return Link(
            id=link_id, hash=bytes(key), owner_id=owner, gate_id=gate, run_id=run, person=person_of(_decode(person)),
            digest=digest, expires_at=expires, used_for=used, over=over,
        )  # fmt: skip

    async def person(self, owner_id: UUID, name: str) -> Decider:
        """Somebody of the owner, by name.

        Raises:
            NotFound: There is nobody of that name who can call.
        """
        async with self._database.connection() as connection:
            row = await fetch_one(
                connection,
                "SELECT json_build_array(p.id, p.name, p.kind, p.roles, ARRAY(SELECT n.name FROM group_members m"
                " JOIN groups n ON n.id = m.group_id WHERE m.principal_id = p.id)) FROM principals p"
                " WHERE p.owner_id = %s AND p.name = %s AND p.disabled_at IS NULL",
                (owner_id, name),
            )
        if row is None:
            raise NotFound(f"there is nobody called {name}", name=name)
        return person_of(_decode(row[0]))
