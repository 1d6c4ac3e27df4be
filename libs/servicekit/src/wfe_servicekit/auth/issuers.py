"""The issuers whose OpenID Connect tokens are accepted, as the operator's JSON file lists them.

```json
[{"issuer": "https://id.example.com", "audience": "wfe", "jwks_url": "https://id.example.com/keys",
  "algorithms": ["RS256"], "owner": "acme", "groups_claim": "groups",
  "roles_claim": "realm_access.roles", "role_map": {"wf-admin": "admin"}, "default_roles": ["viewer"]}]
```
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from wfe_servicekit.settings import ConfigFault

__all__ = ["Issuer", "load_issuers", "parse_issuers"]

Role = Literal["viewer", "operator", "author", "approver", "admin", "breakglass"]
Algorithm = Literal["RS256", "ES256", "EdDSA"]


class Issuer(BaseModel):
    """One issuer, and how its claims become a caller.

    A claim's name may be a path with dots (`realm_access.roles`); a claim with exactly that name wins.

    Attributes:
        issuer: Value of `iss`, compared exactly.
        audience: Value that `aud` must be or contain.
        jwks_file: File with the issuer's public keys; either this or `jwks_url`.
        jwks_url: Address of them; https, or http on the loopback.
        algorithms: Signature algorithms accepted; of one family, so that no key can be used in two ways.
        owner: Owner all its principals belong to; either this or `owner_claim`.
        owner_claim: Claim with the owner's name.
        subject_claim: Claim that, after `issuer|`, is the principal's subject.
        groups_claim: Claim with names of groups; they are added to the principal's own.
        roles_claim: Claim with the issuer's roles; mapped by `role_map`, others are ignored; added to the
            principal's.
        role_map: From the issuer's word to a role.
        default_roles: Roles of a caller who has none by the rules above.
        allow_unknown_principals: Whether a subject nobody has added may call, as a principal made from its
            token.
        name_claim: Claim that names such a principal; its subject when absent.
        leeway_seconds: What clocks may differ.
        max_lifetime_seconds: Longest time from `iat` to `exp`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: Annotated[str, Field(min_length=1, max_length=255)]
    audience: Annotated[str, Field(min_length=1, max_length=255)]
    jwks_file: Path | None = None
    jwks_url: str | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)]
    owner: str | None = None
    owner_claim: str | None = None
    subject_claim: str = "sub"
    groups_claim: str | None = None
    roles_claim: str | None = None
    role_map: dict[str, Role] = Field(default_factory=dict)
    default_roles: frozenset[Role] = frozenset()
    allow_unknown_principals: bool = False
    name_claim: str | None = None
    leeway_seconds: Annotated[int, Field(ge=0, le=60)] = 30
    max_lifetime_seconds: Annotated[int, Field(ge=60, le=7 * 86_400)] = 86_400

    @model_validator(mode="after")
    def _check(self) -> Issuer:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("give exactly one of jwks_file and jwks_url")
        if (self.owner is None) == (self.owner_claim is None):
            raise ValueError("give exactly one of owner and owner_claim")
        if len(self.algorithms) > 1:
            raise ValueError("give exactly one algorithm: a key must not be usable in two ways")
        if self.jwks_url is not None:
            url = urlsplit(self.jwks_url)
            loopback = url.hostname in ("localhost", "127.0.0.1", "::1")
            if url.scheme != "https" and not (url.scheme == "http" and loopback):
                raise ValueError("jwks_url must begin with https://")
        return self


_ISSUERS = TypeAdapter(tuple[Issuer, ...])


def load_issuers(path: Path | None) -> tuple[Issuer, ...]:
    """The issuers of a file; none for None. `jwks_file` is taken relative to the file's folder.

    Raises:
        ConfigFault: The file cannot be read, is no JSON, or says something wrong; every fault is named.
    """
    if path is None:
        return ()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigFault(f"WFE_OIDC_FILE: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigFault(f"WFE_OIDC_FILE: is no JSON: {error}") from error
    return tuple(
        issuer.model_copy(update={"jwks_file": path.parent / issuer.jwks_file}) if issuer.jwks_file else issuer
        for issuer in parse_issuers(data)
    )


def parse_issuers(data: Any) -> tuple[Issuer, ...]:
    """The issuers of a list of plain objects.

    Raises:
        ConfigFault: Something is wrong with it; every fault is named.
    """
    try:
        issuers = _ISSUERS.validate_python(data)
    except ValidationError as error:
        raise ConfigFault(
            *(
                f"WFE_OIDC_FILE: {'.'.join(map(str, fault['loc'])) or 'document'}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False)
            )
        ) from error
    names = [issuer.issuer for issuer in issuers]
    if len(set(names)) < len(names):
        raise ConfigFault("WFE_OIDC_FILE: two entries have the same issuer")
    return issuers
