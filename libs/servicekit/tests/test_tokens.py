"""OpenID Connect tokens: the ones that get in, and every way not to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from wfe_engine.errors import Unauthenticated
from wfe_servicekit.auth import Authenticator, load_issuers, parse_issuers
from wfe_servicekit.settings import ConfigFault
from wfe_servicekit.testing import ManualSeconds, MemoryDirectory

ISSUER = "https://id.example.com"
ALGORITHMS = {"RS256": ("RSA", 2048), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}
CLASSES: dict[str, Any] = {"RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}
KEYS = {alg: cls.generate_key(ALGORITHMS[alg][1], {"kid": "k1", "use": "sig"}) for alg, cls in CLASSES.items()}
OTHER = {alg: cls.generate_key(ALGORITHMS[alg][1], {"kid": "k1"}) for alg, cls in CLASSES.items()}


def b64(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(header: dict[str, Any], claims: Any, key: Any) -> str:
    """A compact token with any header whatever; the library would refuse to make some of these."""
    body = f"{b64(header)}.{b64(claims if isinstance(claims, bytes) else json.dumps(claims).encode())}"
    model = jws.JWSRegistry.algorithms[header.get("alg", "RS256")]
    return f"{body}.{b64(model.sign(body.encode(), key))}"


class World:
    """One issuer, one principal, a clock, and tokens that are right unless changed."""

    def __init__(self, folder: Path, algorithm: str = "RS256", **issuer: Any) -> None:
        self.folder = folder
        self.algorithm = algorithm
        self.key = KEYS[algorithm]
        self.seconds = ManualSeconds()
        self.directory = MemoryDirectory()
        self.directory.add_subject(f"{ISSUER}|ann", "viewer", groups=frozenset({"editors"}))
        (folder / "jwks.json").write_text(json.dumps({"keys": [self.key.as_dict(private=False)]}))
        entry = {"issuer": ISSUER, "audience": "wfe", "jwks_file": "jwks.json", "algorithms": [algorithm]}
        if "owner_claim" not in issuer:
            entry["owner"] = "acme"
        (folder / "oidc.json").write_text(json.dumps([entry | issuer]))
        self.who = Authenticator(
            self.directory,
            load_issuers(folder / "oidc.json"),
            owners=self.directory,
            now=self.seconds,
            monotonic=self.seconds,
        )

    def header(self, **changes: Any) -> dict[str, Any]:
        header = {"alg": self.algorithm, "kid": "k1", "typ": "JWT"} | changes
        return {name: value for name, value in header.items() if value is not None}

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(self.seconds())
        claims = {"iss": ISSUER, "aud": "wfe", "sub": "ann", "iat": now - 600, "exp": now + 600} | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        return sign(self.header(**(header or {})), self.claims(**claims), key or self.key)

    async def accepts(self, token: str) -> bool:
        try:
            await self.who.authenticate(f"Bearer {token}")
        except Unauthenticated as error:
            refusal = error
        else:
            return True
        assert refusal.message == "credentials are missing or not valid"
        assert refusal.metadata == {}
        return False


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
async def test_a_valid_token_is_its_principal(tmp_path: Path, algorithm: str) -> None:
    world = World(tmp_path, algorithm)
    caller = await world.who.authenticate(f"Bearer {world.token()}")
    assert (caller.owner, caller.principal, caller.key_id) == ("acme", "ann", None)
    assert (caller.roles, caller.groups) == ({"viewer"}, {"editors"})
    assert not await world.accepts(world.token(key=OTHER[algorithm]))


async def test_headers_and_claims_that_are_right_in_other_ways(world: World) -> None:
    for header in ({"typ": None}, {"typ": "at+jwt"}, {"x5t": "abc"}):
        assert await world.accepts(world.token(header=header)), header
    assert await world.accepts(world.token(aud=["other", "wfe"]))
    assert await world.accepts(world.token(exp=int(world.seconds()) - 20))  # within the leeway
    assert await world.accepts(world.token(iat=int(world.seconds()) + 20))


@pytest.mark.parametrize(
    "change",
    [
        {"exp": None},
        {"iat": None},
        {"aud": None},
        {"iss": None},
        {"sub": None},
        {"exp": "never"},
        {"exp": True},
        {"iat": "now"},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "bob"},
        {"sub": "ann\x00"},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": {"wfe": 1}},
        {"aud": ""},
        {"iss": "https://evil.example.com"},
        {"iss": ISSUER + "/"},
        {"iss": [ISSUER]},
        {"exp": 1},
        {"exp": 1e308},
        {"nbf": 3_000_000_000},
        {"nbf": "x"},
    ],
    ids=str,
)
async def test_claims_that_keep_a_token_out(world: World, change: dict[str, Any]) -> None:
    assert await world.accepts(world.token())
    assert not await world.accepts(world.token(**change))


async def test_times_beyond_the_leeway_keep_a_token_out(world: World) -> None:
    now = int(world.seconds())
    assert not await world.accepts(world.token(exp=now - 31))
    assert not await world.accepts(world.token(iat=now + 31))
    assert not await world.accepts(world.token(nbf=now + 31))
    assert not await world.accepts(world.token(iat=now - 10, exp=now - 10 + 86_401))
    assert await world.accepts(world.token(iat=now - 10, exp=now - 10 + 86_400))


@pytest.mark.parametrize(
    "change",
    [
        {"kid": None},
        {"kid": "k2"},
        {"kid": 1},
        {"kid": "../jwks.json"},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"jku": "https://evil.example.com/keys"},
        {"x5u": "https://evil.example.com/cert"},
        {"x5c": ["MII"]},
        {"jwk": OTHER["RS256"].as_dict(private=False)},
        {"typ": "logout+jwt"},
        {"enc": "A256GCM"},
        {"zip": "DEF"},
    ],
    ids=lambda change: "-".join(f"{name}" if name == "jwk" else f"{name}={value}" for name, value in change.items()),
)
async def test_headers_that_keep_a_token_out(world: World, change: dict[str, Any]) -> None:
    assert not await world.accepts(world.token(header=change))
    if "jwk" in change:
        assert not await world.accepts(world.token(header=change, key=OTHER["RS256"]))


async def test_algorithms_other_than_the_pinned_one_keep_a_token_out(world: World) -> None:
    for alg in ("RS384", "RS512", "PS256"):
        assert not await world.accepts(world.token(header={"alg": alg})), alg
    for alg in ("ES256", "EdDSA"):
        assert not await world.accepts(world.token(header={"alg": alg}, key=KEYS[alg])), alg
    for alg in ("none", "None", "NONE", "", None, ["RS256"]):
        body = f"{b64(world.header(alg=alg))}.{b64(world.claims())}"
        for signature in ("", b64(b"x" * 256)):
            assert not await world.accepts(f"{body}.{signature}"), alg


@pytest.mark.parametrize("secret", ["pem", "der", "jwk", "n"])
async def test_the_public_key_is_no_hmac_secret(world: World, secret: str) -> None:
    public = KEYS["RS256"].as_dict(private=False)
    material = {
        "pem": KEYS["RS256"].as_pem(private=False),
        "der": KEYS["RS256"].as_der(private=False),
        "jwk": json.dumps(public).encode(),
        "n": str(public["n"]).encode(),
    }[secret]
    for alg, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
        body = f"{b64(world.header(alg=alg))}.{b64(world.claims())}"
        assert not await world.accepts(f"{body}.{b64(hmac.new(material, body.encode(), digest).digest())}")


async def test_tampered_and_broken_tokens_are_refused(world: World) -> None:
    head, body, signature = world.token().split(".")
    forged = b64(world.claims(sub="root"))
    deep = b64(b"[" * 4_000 + b"]" * 4_000)
    for token in (
        f"{head}.{forged}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature}.{signature}",
        f".{body}.{signature}",
        "..",
        "a.b.c",
        "é.ü.ß",
        f"{b64(b'[]')}.{body}.{signature}",
        f"{head}.{b64(b'null')}.{signature}",
        f"{head}.{deep}.{signature}",
        f"{deep}.{body}.{signature}",
        "x" * 9_000,
        world.token(pad="x" * 9_000),
    ):
        assert not await world.accepts(token), token[:60]
    assert world.directory.asked == []


async def test_a_disabled_principal_and_one_of_another_owner_are_refused(world: World) -> None:
    world.directory.add_subject(f"{ISSUER}|ann", "admin", disabled=True)
    assert not await world.accepts(world.token())
    world.directory.add_subject(f"{ISSUER}|eve", "admin", owner="rival")
    assert not await world.accepts(world.token(sub="eve"))


async def test_a_token_is_remembered_no_longer_than_it_is_valid(world: World) -> None:
    token = world.token(exp=int(world.seconds()) - 28)
    assert await world.accepts(token)
    world.seconds.seconds += 2.5
    assert not await world.accepts(token)


async def test_claims_become_roles_and_groups(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        roles_claim="realm_access.roles",
        role_map={"wf-admin": "admin", "wf-ops": "operator"},
        groups_claim="https://x/groups",
        default_roles=["author"],
    )
    world.directory.add_subject(f"{ISSUER}|new")
    token = world.token(
        realm_access={"roles": ["wf-ops", "admin", 7, "other"]}, **{"https://x/groups": "legal finance"}
    )
    caller = await world.who.authenticate(f"Bearer {token}")
    assert caller.roles == {
        "viewer",
        "operator",
    }  # a word that is not mapped is no role, even if it is named like one
    assert caller.groups == {"editors", "legal", "finance"}
    caller = await world.who.authenticate(f"Bearer {world.token(sub='new')}")
    assert caller.roles == {"author"}
    assert not await world.accepts(world.token(sub="unknown"))


async def test_the_owner_may_come_from_a_claim(tmp_path: Path) -> None:
    world = World(tmp_path, owner_claim="org")
    assert await world.accepts(world.token(org="acme"))
    for org in ("rival", "", None, 7, ["acme"]):
        assert not await world.accepts(world.token(org=org)), org


async def test_the_subject_may_come_from_another_claim(tmp_path: Path) -> None:
    world = World(tmp_path, subject_claim="oid")
    assert await world.accepts(world.token(sub="whatever", oid="ann"))
    assert not await world.accepts(world.token())


async def test_unknown_principals_are_added_when_that_is_allowed(tmp_path: Path) -> None:
    world = World(tmp_path, allow_unknown_principals=True, default_roles=["viewer"], name_claim="email")
    caller = await world.who.authenticate(f"Bearer {world.token(sub='new', email='new@example.com')}")
    assert (caller.principal, caller.roles, caller.owner) == ("new@example.com", {"viewer"}, "acme")
    with pytest.raises(ConfigFault, match="allow_unknown_principals"):
        Authenticator(world.directory, load_issuers(tmp_path / "oidc.json"))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"algorithms": ["RS256", "ES256"]}, "exactly one algorithm"),
        ({"jwks_file": None}, "jwks_file and jwks_url"),
        ({"jwks_url": "https://id.example.com/keys"}, "jwks_file and jwks_url"),
        ({"jwks_file": None, "jwks_url": "http://id.example.com/keys"}, "https"),
        ({"owner": None}, "owner and owner_claim"),
        ({"owner_claim": "org"}, "owner and owner_claim"),
        ({"leeway_seconds": 61}, "leeway"),
        ({"role_map": {"x": "root"}}, "role_map"),
        ({"default_roles": ["root"]}, "default_roles"),
        ({"typo": 1}, "typo"),
        ({"issuer": ""}, "issuer"),
    ],
    ids=str,
)
def test_a_wrong_issuer_file_is_refused_with_its_fault(change: dict[str, Any], fault: str) -> None:
    good = {"issuer": ISSUER, "audience": "wfe", "jwks_file": "k", "algorithms": ["RS256"], "owner": "acme"}
    parse_issuers([good])
    with pytest.raises(ConfigFault, match=fault):
        parse_issuers([{name: value for name, value in (good | change).items() if value is not None}])
    with pytest.raises(ConfigFault, match="same issuer"):
        parse_issuers([good, good])


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b"\xff", b'[{"issuer": 1}]'])
def test_an_issuer_file_that_cannot_be_read_is_a_fault(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "oidc.json").write_bytes(content)
    with pytest.raises(ConfigFault, match="WFE_OIDC_FILE"):
        load_issuers(tmp_path / "oidc.json")
    assert load_issuers(None) == ()


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [{"kty": "oct", "k": "AAAA", "kid": "k1"}],
        [KEYS["ES256"].as_dict(private=False)],
        [RSAKey.generate_key(2048).as_dict(private=False, kid=None)],
        [RSAKey.generate_key(2048, {"kid": "k1", "use": "enc"}).as_dict(private=False)],
        "keys",
    ],
    ids=["none", "symmetric", "other-family", "no-kid", "for-encryption", "no-list"],
)
def test_a_key_file_without_a_fitting_key_is_a_fault(tmp_path: Path, keys: Any) -> None:
    if isinstance(keys, list):
        keys = [{name: value for name, value in key.items() if value is not None} for key in keys]
    world = World(tmp_path)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": keys}))
    with pytest.raises(ConfigFault, match="jwks_file"):
        Authenticator(world.directory, load_issuers(tmp_path / "oidc.json"), owners=world.directory)
