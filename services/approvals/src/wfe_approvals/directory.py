"""What authentication asks of the store."""

from __future__ import annotations

from dataclasses import asdict

from wfe_servicekit.auth import KeyRecord, PrincipalRecord
from wfe_store.keys import FoundPrincipal, Keys


class StoreDirectory:
    """Keys and principals of the store, in the form `Authenticator` takes them."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def find_key(self, key_id: str) -> KeyRecord | None:
        """The key with that public part; None when there is none."""
        found = await self._keys.find_key(key_id)
        return None if found is None else KeyRecord(**asdict(found))

    async def find_subject(self, issuer_subject: str, owner_name: str | None) -> PrincipalRecord | None:
        """The owner's principal with that subject; None when there is none."""
        return None if owner_name is None else _record(await self._keys.find_subject(issuer_subject, owner_name))

    async def ensure_subject(self, issuer_subject: str, owner_name: str, name: str) -> PrincipalRecord | None:
        """The owner's principal with that subject, made when missing; None without such an owner."""
        return _record(await self._keys.ensure_subject(issuer_subject, owner_name, name))


def _record(found: FoundPrincipal | None) -> PrincipalRecord | None:
    return None if found is None else PrincipalRecord(**asdict(found))
