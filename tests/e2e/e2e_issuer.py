"""An issuer of OpenID Connect tokens on this machine: its key set over HTTP, and tokens as a test wants them."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

AUDIENCE = "wfe-e2e"
#: In the owner of sam, ada and root.
OWNER = "dev"
_ALGORITHM = "ES256"


class Issuer:
    """The issuer; an async context manager.

    Attributes:
        url: Its name, and where it listens.
    """

    def __init__(self) -> None:
        self.url = ""
        self._key = ECKey.generate_key("P-256", {"kid": "first", "use": "sig", "alg": _ALGORITHM})
        self._stranger = ECKey.generate_key("P-256", {"kid": "first"})
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Issuer:
        app = web.Application()
        app.router.add_get("/keys", self._keys)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _keys(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [self._key.as_dict(private=False)]})

    def settings(self) -> list[dict[str, Any]]:
        """What WFE_OIDC_FILE says of it."""
        return [
            {
                "issuer": self.url,
                "audience": AUDIENCE,
                "algorithms": [_ALGORITHM],
                "jwks_url": f"{self.url}/keys",
                "owner": OWNER,
                "groups_claim": "groups",
                "roles_claim": "realm_access.roles",
                "role_map": {"wf-operator": "operator", "wf-approver": "approver", "wf-viewer": "viewer"},
                "allow_unknown_principals": True,
                "name_claim": "preferred_username",
                "leeway_seconds": 0,
            }
        ]

    def token(
        self,
        subject: str,
        *,
        roles: tuple[str, ...] = (),
        groups: tuple[str, ...] = (),
        header: dict[str, Any] | None = None,
        forged: bool = False,
        **claims: Any,
    ) -> str:
        """A token; every claim and header can be another.

        Args:
            forged: Signed with a key of somebody else, under the kid of the issuer's.
        """
        now = int(time.time())
        body = {
            "iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300, "groups": list(groups),
            "preferred_username": subject, "realm_access": {"roles": list(roles)}, **claims,
        }  # fmt: skip
        key = self._stranger if forged else self._key
        return jwt.encode({"alg": _ALGORITHM, "kid": "first", **(header or {})}, body, key)

    def unsigned(self, subject: str) -> str:
        """A token that says it needs no signature."""
        _, body, _ = self.token(subject).split(".")
        head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "first"}).encode()).rstrip(b"=").decode()
        return f"{head}.{body}."
