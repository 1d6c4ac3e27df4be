"""From the `authorization` of a call to its `Caller`.

**Keys** (`wfe_…`): looked up by their public part, the secret's hash compared in constant time.

**Tokens** (OpenID Connect): verified as `tokens` says, then mapped:

- subject: `<iss>|<subject claim>`, looked up as a principal of the owner;
- owner: the fixed one of the issuer, or the one its `owner_claim` names; a principal of another owner is
  refused;
- unknown subjects are refused, or with `allow_unknown_principals` added to the owner with no roles of their
  own;
- roles: the principal's, and those `role_map` makes of `roles_claim`; `default_roles` when that gives none;
- groups: the principal's, and those of `groups_claim`. Both claims may be a list of strings or one string
  with blanks.

What the store says is remembered for at most 4 seconds from the moment it was asked, so a revoked key stops
working within 5. Requests for the same thing at the same time share one look-up. What does not exist is
remembered apart, so that a flood of made-up keys does not push out the real ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from wfe_servicekit.auth.directory import Directory, FoundKey, FoundPrincipal, OwnerDirectory
from wfe_servicekit.auth.issuers import Issuer
from wfe_servicekit.auth.keys import PREFIX, parse_key, refusal
from wfe_servicekit.auth.tokens import TokenVerifier
from wfe_servicekit.calls import Caller
from wfe_servicekit.settings import ConfigFault

__all__ = ["Authenticator"]

CACHE_SECONDS = 4.0
MOST_ENTRIES = 10_000

T = TypeVar("T")


class Authenticator:
    """Knows who calls. One for each process; belongs to one event loop.

    Args:
        directory: Where keys and principals are looked up.
        issuers: Issuers whose tokens are accepted.
        owners: Needed when an issuer allows unknown principals.
        cache_seconds: How long an answer of the directory is used, at most 4.
        now: Seconds since 1970.
        monotonic: Seconds that never go back.

    Raises:
        ConfigFault: An issuer's key file cannot be used, or unknown principals are allowed without `owners`.
    """

    def __init__(
        self,
        directory: Directory,
        issuers: tuple[Issuer, ...] = (),
        *,
        owners: OwnerDirectory | None = None,
        cache_seconds: float = CACHE_SECONDS,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if owners is None and any(issuer.allow_unknown_principals for issuer in issuers):
            raise ConfigFault("WFE_OIDC_FILE: allow_unknown_principals is not supported by this service")
        ttl = min(cache_seconds, CACHE_SECONDS)
        self._directory = directory
        self._owners = owners
        self._now = now
        self._monotonic = monotonic
        self._verifier = TokenVerifier(issuers, now=now, monotonic=monotonic)
        self._keys: _Lookups[FoundKey] = _Lookups(ttl, monotonic)
        self._subjects: _Lookups[FoundPrincipal] = _Lookups(ttl, monotonic)
        self._callers: dict[bytes, tuple[Caller, float]] = {}

    def recall(self, authorization: str | None) -> Caller | None:
        """The caller of credentials accepted a moment ago; None when they have to be looked at (again)."""
        if authorization is None:
            return None
        # By digest, so that the process does not keep secrets it only has to recognise.
        entry = self._callers.get(hashlib.sha256(authorization.encode()).digest())
        if entry is None or entry[1] <= self._monotonic():
            return None
        return entry[0]

    async def authenticate(self, authorization: str | None) -> Caller:
        """Who calls.

        Args:
            authorization: Value of the header, `Bearer <key or token>`; None when it is absent.

        Raises:
            Unauthenticated: Whatever is wrong with it.
            Unavailable: The store or the issuer's keys cannot be reached.
        """
        caller = self.recall(authorization)
        if caller is not None:
            return caller
        if authorization is None or authorization[:7].lower() != "bearer ":
            raise refusal()
        credentials = authorization[7:].strip()
        if credentials.startswith(PREFIX):
            caller, until = await self._by_key(credentials)
        else:
            caller, until = await self._by_token(credentials)
        _make_room(self._callers)
        self._callers[hashlib.sha256(authorization.encode()).digest()] = (caller, until)
        return caller

    async def _by_key(self, text: str) -> tuple[Caller, float]:
        key_id, digest = parse_key(text)
        record, until = await self._keys.find(key_id, lambda: self._directory.find_key(key_id))
        if record is None or not hmac.compare_digest(record.hash, digest) or record.disabled:
            raise refusal()
        left = min(self._left(record.expires_at), self._left(record.revoked_at))
        if left <= 0:
            raise refusal()
        caller = Caller(
            owner_id=record.owner_id,
            owner=record.owner,
            principal_id=record.principal_id,
            principal=record.principal,
            kind=record.kind,
            roles=frozenset(record.roles),
            groups=frozenset(record.groups),
            key_id=key_id,
        )
        return caller, min(until, self._monotonic() + left)

    def _left(self, moment: datetime | None) -> float:
        return float("inf") if moment is None else moment.astimezone(UTC).timestamp() - self._now()

    async def _by_token(self, token: str) -> tuple[Caller, float]:
        issuer, claims = await self._verifier.verify(token)
        subject = _claim(claims, issuer.subject_claim)
        owner = issuer.owner if issuer.owner_claim is None else _claim(claims, issuer.owner_claim)
        if owner is None or not _is_name(subject) or not _is_name(owner):
            raise refusal()
        principal, until = await self._principal(issuer, f"{issuer.issuer}|{subject}", owner, claims)
        if principal is None or principal.disabled or principal.owner != owner:
            raise refusal()
        mapped = (issuer.role_map.get(word) for word in _words(claims, issuer.roles_claim))
        roles = principal.roles.union(role for role in mapped if role is not None)
        caller = Caller(
            owner_id=principal.owner_id,
            owner=principal.owner,
            principal_id=principal.principal_id,
            principal=principal.principal,
            kind=principal.kind,
            roles=roles or frozenset(issuer.default_roles),
            groups=principal.groups.union(_words(claims, issuer.groups_claim)),
            key_id=None,
        )
        left = claims["exp"] + issuer.leeway_seconds - self._now()
        return caller, min(until, self._monotonic() + left)

    async def _principal(
        self, issuer: Issuer, subject: str, owner: str, claims: Mapping[str, Any]
    ) -> tuple[FoundPrincipal | None, float]:
        def look_up() -> Awaitable[FoundPrincipal | None]:
            if issuer.allow_unknown_principals and self._owners is not None:
                name = _claim(claims, issuer.name_claim) if issuer.name_claim else None
                return self._owners.ensure_subject(subject, owner, str(name) if _is_name(name) else subject)
            return self._directory.find_subject(subject, owner)

        return await self._subjects.find((subject, owner), look_up)


class _Lookups(Generic[T]):
    """Answers of the directory, remembered for a while from the moment they were asked for."""

    def __init__(self, ttl: float, monotonic: Callable[[], float]) -> None:
        self._ttl = ttl
        self._monotonic = monotonic
        self._known: dict[Hashable, tuple[T, float]] = {}
        self._unknown: dict[Hashable, float] = {}
        self._asking: dict[Hashable, asyncio.Task[tuple[T | None, float]]] = {}

    async def find(self, key: Hashable, ask: Callable[[], Awaitable[T | None]]) -> tuple[T | None, float]:
        """The answer, and until when it may be used."""
        now = self._monotonic()
        entry = self._known.get(key)
        if entry is not None and entry[1] > now:
            return entry
        until = self._unknown.get(key)
        if until is not None and until > now:
            return None, until
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, ask))
        # Shielded: the look-up is shared, and one caller who hangs up must not end it for the others.
        return await asyncio.shield(task)

    async def _ask(self, key: Hashable, ask: Callable[[], Awaitable[T | None]]) -> tuple[T | None, float]:
        until = self._monotonic() + self._ttl
        try:
            answer = await ask()
        finally:
            del self._asking[key]
            self._known.pop(key, None)
            self._unknown.pop(key, None)
        if answer is None:
            _make_room(self._unknown)
            self._unknown[key] = until
        else:
            _make_room(self._known)
            self._known[key] = (answer, until)
        return answer, until


def _make_room(entries: dict[Any, Any]) -> None:
    """Drop the oldest tenth when there are too many."""
    if len(entries) >= MOST_ENTRIES:
        for key in list(entries)[: MOST_ENTRIES // 10]:
            del entries[key]


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _words(claims: Mapping[str, Any], path: str | None) -> list[str]:
    value = _claim(claims, path) if path else None
    if isinstance(value, str):
        return value.split()[:200]
    return [word for word in value if _is_name(word)][:200] if isinstance(value, list) else []


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()
