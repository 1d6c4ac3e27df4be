"""What authentication asks of the store: keys and principals. The store implements `Directory`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

__all__ = ["Directory", "KeyRecord", "OwnerDirectory", "PrincipalRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One API key, with the principal it speaks for.

    Attributes:
        hash: SHA-256 of the key's secret part, 32 bytes.
        owner_id: Owner the principal belongs to.
        owner: The owner's name.
        principal_id: Principal the key speaks for.
        principal: The principal's name.
        kind: person, agent or service.
        roles: The principal's roles, already narrowed to the key's.
        groups: Names of the principal's groups.
        expires_at: When it stops working, aware; None for never.
        revoked_at: When it was revoked or shall be, aware; None when it was not.
        disabled: True when principal or owner may not call at all.
    """

    hash: bytes
    owner_id: UUID
    owner: str
    principal_id: UUID
    principal: str
    kind: str
    roles: frozenset[str]
    groups: frozenset[str] = field(default_factory=frozenset)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalRecord:
    """One principal, found by the subject of its tokens.

    Attributes:
        owner_id: Owner it belongs to.
        owner: The owner's name.
        principal_id: The principal.
        principal: Its name.
        kind: person, agent or service.
        roles: Its roles.
        groups: Names of its groups.
        disabled: True when principal or owner may not call at all.
    """

    owner_id: UUID
    owner: str
    principal_id: UUID
    principal: str
    kind: str
    roles: frozenset[str]
    groups: frozenset[str] = field(default_factory=frozenset)
    disabled: bool = False


class FoundPrincipal(Protocol):
    """What authentication reads of a principal; `PrincipalRecord` has it, and so has what the store finds."""

    @property
    def owner_id(self) -> UUID: ...
    @property
    def owner(self) -> str: ...
    @property
    def principal_id(self) -> UUID: ...
    @property
    def principal(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def roles(self) -> frozenset[str]: ...
    @property
    def groups(self) -> frozenset[str]: ...
    @property
    def disabled(self) -> bool: ...


class FoundKey(FoundPrincipal, Protocol):
    """What authentication reads of a key; `KeyRecord` has it, and so has what the store finds."""

    @property
    def hash(self) -> bytes: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def revoked_at(self) -> datetime | None: ...


class Directory(Protocol):
    """Where keys and principals are looked up.

    Asked about each at most once in 4 seconds while it is in use, so `find_key` is also the place to note
    when a key was last used.
    """

    async def find_key(self, key_id: str, /) -> FoundKey | None:
        """The key with that public part, whatever its state; None when there is none."""
        ...

    async def find_subject(self, issuer_subject: str, owner_name: str | None, /) -> FoundPrincipal | None:
        """The principal with the subject `issuer|sub`, of the owner with that name; None without one."""
        ...


class OwnerDirectory(Protocol):
    """What `allow_unknown_principals` needs besides: principals that nobody has added still have an owner."""

    async def ensure_subject(self, issuer_subject: str, owner_name: str, name: str, /) -> FoundPrincipal | None:
        """The principal with that subject, made without roles when it is not there; None without the owner.

        Safe to repeat, also at the same time.
        """
        ...
