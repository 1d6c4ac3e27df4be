"""The development owner: its people and their keys."""

from __future__ import annotations

import json
from pathlib import Path

from wfe_engine.errors import Unauthenticated
from wfe_servicekit.auth.keys import new_key, parse_key
from wfe_store.identity import Identity, SeedPrincipal
from wfe_store.keys import Fresh, Keys
from wfe_store.pool import Database

from wfe_stack.folder import is_open, read_keys, write_private

OWNER = "dev"
#: The starter, the approver and the administrator. Who starts a run may not approve it, so it takes two.
PEOPLE = (
    SeedPrincipal("sam", roles=("operator", "author", "viewer")),
    SeedPrincipal("ada", roles=("approver", "viewer"), groups=("editors",)),
    SeedPrincipal("root", roles=("admin",)),
)
_KEY_NAME = "wfe up"


async def seed(
    database_url: str, path: Path, *, owner: str = OWNER, people: tuple[SeedPrincipal, ...] = PEOPLE
) -> dict[str, str]:
    """Make the owner, its people and a key for each, where they are missing. Safe to repeat.

    Args:
        database_url: Of a migrated database.
        path: File with the keys, by name; readable by its owner alone. Keys in it that work stay; others are
            replaced, and the lost ones revoked.
        owner: Name of the owner.
        people: Its people.

    Returns:
        The keys, by name.

    Raises:
        StackFault: The file cannot be read or written.
        wfe_engine.errors.Unavailable: The database cannot be reached.
    """
    known = read_keys(path)
    database = Database(database_url, name="wfe-stack", size=2)
    await database.open()
    try:
        seeded = await Identity(database).seed_owner(owner, people)
        keys = Keys(database)
        fresh = dict(known)
        for name, principal in seeded.principals.items():
            if not await _works(keys, known.get(name, ""), owner, name):
                made = new_key()
                # Into the file only after the database has it; a stop in between costs nothing but this key.
                await keys.reissue(seeded.owner_id, principal, Fresh(made.key_id, made.hash), name=_KEY_NAME)
                fresh[name] = made.text
    finally:
        await database.close()
    if fresh != known or is_open(path):
        write_private(path, json.dumps(fresh, indent=2) + "\n")
    return {name: fresh[name] for name in seeded.principals}


async def _works(keys: Keys, text: str, owner: str, name: str) -> bool:
    """Whether the database knows the key as that person's, and lets it in."""
    try:
        parsed = parse_key(text)
    except Unauthenticated:
        return False
    found = await keys.find_key(parsed.key_id)
    return (
        found is not None
        and (found.owner, found.principal, found.hash) == (owner, name, parsed.hash)
        and found.revoked_at is None
        and found.expires_at is None
    )
