"""Verification of OpenID Connect tokens: signature, times, audience. Who the caller is, is decided elsewhere.

The algorithm is the one the operator pinned, the key is found by `kid` in the issuer's own key set and
nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import aiohttp
import structlog
from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from wfe_engine.errors import Unavailable

from wfe_servicekit.auth.issuers import Issuer
from wfe_servicekit.auth.keys import refusal
from wfe_servicekit.settings import ConfigFault

__all__ = ["JwksSource", "TokenVerifier"]

_log = structlog.get_logger("wfe.auth")

LONGEST_TOKEN = 8192
# Headers by which a token would choose its own key (jku, x5u, jwk, x5c) or change what is signed (crit, b64)
# are not among them, so such a token is refused.
_HEADERS = frozenset({"alg", "kid", "typ", "cty", "x5t", "x5t#S256"})
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_KEY_TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
_REFRESH_SECONDS = 60.0
_STALE_SECONDS = 3600.0
_RETRY_SECONDS = 5.0
_MOST_JWKS_BYTES = 1 << 20

PublicKey = RSAKey | ECKey | OKPKey
Jwks = Mapping[str, PublicKey]


class _Pinned(JWSRegistry):
    """Knows the one algorithm of an issuer, and no other under whatever name."""

    def get_alg(self, name: str) -> Any:
        if self.allowed is None or name not in self.allowed:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def parse_jwks(data: Any, algorithm: str) -> dict[str, PublicKey]:
    """Public keys by `kid` that fit the algorithm; others (for encryption, symmetric) are passed over."""
    found: dict[str, PublicKey] = {}
    entries = data.get("keys") if isinstance(data, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or not entry["kid"]:
            continue
        if entry.get("kty") != _KEY_TYPES[algorithm]:
            continue
        if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
            continue
        try:
            key = JWKRegistry.import_key(entry)
            if isinstance(key, RSAKey | ECKey | OKPKey) and _fits(key, algorithm):
                found[entry["kid"]] = key
        except (JoseError, ValueError, TypeError):
            continue
    return found


def _fits(key: PublicKey, algorithm: str) -> bool:
    if algorithm == "RS256":
        return isinstance(key, RSAKey) and key.raw_value.key_size >= 2048
    if algorithm == "ES256":
        return isinstance(key, ECKey) and key.curve_name == "P-256"
    return isinstance(key, OKPKey) and key.curve_name == "Ed25519"


class JwksSource:
    """The key set of one issuer: read from its file at once, or fetched from its address when first needed.

    A fetched set is fetched again after an hour, and for a `kid` it does not hold, but at most once a minute;
    callers who need it at the same time share one fetch. While the address does not answer, the set before
    stays in use.

    Args:
        issuer: Whose keys.
        monotonic: Seconds that never go back.

    Raises:
        ConfigFault: The file cannot be read or holds no key that fits the algorithm.
    """

    def __init__(self, issuer: Issuer, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._monotonic = monotonic
        self._keys: Jwks = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetch: asyncio.Task[None] | None = None
        if issuer.jwks_file is not None:
            try:
                self._keys = parse_jwks(json.loads(issuer.jwks_file.read_bytes()), issuer.algorithms[0])
            except (OSError, ValueError) as error:
                raise ConfigFault(f"WFE_OIDC_FILE: {issuer.issuer}: jwks_file cannot be used: {error}") from error
            if not self._keys:
                raise ConfigFault(f"WFE_OIDC_FILE: {issuer.issuer}: jwks_file has no key for {issuer.algorithms[0]}")

    async def find(self, kid: str) -> PublicKey | None:
        """The key with that id, or None.

        Raises:
            Unavailable: The keys were never fetched and cannot be now.
        """
        if self._issuer.jwks_url is None:
            return self._keys.get(kid)
        now = self._monotonic()
        stale = self._fetched_at is None or now - self._fetched_at > _STALE_SECONDS
        if stale or kid not in self._keys:
            pause = _RETRY_SECONDS if self._fetched_at is None else _REFRESH_SECONDS
            if self._fetch is None and (self._tried_at is None or now - self._tried_at >= pause):
                self._tried_at = now
                self._fetch = asyncio.create_task(self._refresh(self._issuer.jwks_url))
            if self._fetch is not None and (self._fetched_at is None or kid not in self._keys):
                await asyncio.shield(self._fetch)
        if self._fetched_at is None:
            raise Unavailable("the keys of the token's issuer cannot be fetched", reason="ISSUER_UNAVAILABLE")
        return self._keys.get(kid)

    async def _refresh(self, url: str) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                response.raise_for_status()
                body = await response.content.read(_MOST_JWKS_BYTES + 1)
                while len(body) <= _MOST_JWKS_BYTES and not response.content.at_eof():
                    body += await response.content.read(_MOST_JWKS_BYTES + 1 - len(body))
            if response.status != 200 or len(body) > _MOST_JWKS_BYTES:
                raise ValueError(f"status {response.status}, {len(body)} bytes")
            self._keys = parse_jwks(json.loads(body), self._issuer.algorithms[0])
            self._fetched_at = self._monotonic()
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
            _log.warning("jwks_fetch_failed", issuer=self._issuer.issuer, error=str(error))
        finally:
            self._fetch = None


class TokenVerifier:
    """Checks tokens of the issuers it is given.

    Args:
        issuers: Whose tokens are accepted.
        now: Seconds since 1970.
        monotonic: Seconds that never go back.

    Raises:
        ConfigFault: A key file cannot be used.
    """

    def __init__(
        self,
        issuers: tuple[Issuer, ...],
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._issuers = {issuer.issuer: (issuer, JwksSource(issuer, monotonic)) for issuer in issuers}
        self._registries = {issuer.issuer: _Pinned(algorithms=list(issuer.algorithms)) for issuer in issuers}

    async def verify(self, token: str) -> tuple[Issuer, Mapping[str, Any]]:
        """The issuer and the claims of a valid token.

        Raises:
            Unauthenticated: Whatever is wrong with it.
            Unavailable: The issuer's keys were never fetched and cannot be now.
        """
        if not self._issuers or len(token) > LONGEST_TOKEN:
            raise refusal()
        try:
            head, body, _signature = token.split(".")
            header = _part(head)
            # Read before it is verified, only to know whose keys to verify it with.
            name = _part(body).get("iss")
            if not isinstance(name, str):
                raise refusal()
            issuer, jwks = self._issuers[name]
            kid = header.get("kid")
            if not (
                _HEADERS.issuperset(header)
                and header.get("alg") in issuer.algorithms
                and isinstance(kid, str)
                and str(header.get("typ", "JWT")).lower() in _TYPES
            ):
                raise refusal()
            key = await jwks.find(kid)
            if key is None:
                raise refusal()
            claims = jwt.decode(token, key, list(issuer.algorithms), self._registries[name]).claims
        except (JoseError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise refusal() from error
        self._check(issuer, claims)
        return issuer, claims

    def _check(self, issuer: Issuer, claims: Mapping[str, Any]) -> None:
        now, leeway = self._now(), issuer.leeway_seconds
        expires, issued, not_before = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
        audience, subject = claims.get("aud"), claims.get("sub")
        if not (_is_time(expires) and _is_time(issued) and _is_time(not_before)):
            raise refusal()
        if now >= expires + leeway or issued > now + leeway or not_before > now + leeway:
            raise refusal()
        if not 0 < expires - issued <= issuer.max_lifetime_seconds:
            raise refusal()
        if claims.get("iss") != issuer.issuer or not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise refusal()
        if audience != issuer.audience and not (isinstance(audience, list) and issuer.audience in audience):
            raise refusal()


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11


def _part(text: str) -> dict[str, Any]:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("no base64") from error
    part = json.loads(raw)
    if not isinstance(part, dict):
        raise ValueError("no object")
    return part
