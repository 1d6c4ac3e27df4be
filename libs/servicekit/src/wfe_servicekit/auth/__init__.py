"""Authentication: API keys and OpenID Connect tokens, the same over REST and gRPC."""

from wfe_servicekit.auth.authenticator import Authenticator
from wfe_servicekit.auth.directory import Directory, KeyRecord, OwnerDirectory, PrincipalRecord
from wfe_servicekit.auth.issuers import Issuer, load_issuers, parse_issuers
from wfe_servicekit.auth.keys import NewKey, ParsedKey, new_key, parse_key
from wfe_servicekit.calls import Caller, acting_as, current_caller

__all__ = [
    "Authenticator",
    "Caller",
    "Directory",
    "Issuer",
    "KeyRecord",
    "NewKey",
    "OwnerDirectory",
    "ParsedKey",
    "PrincipalRecord",
    "acting_as",
    "current_caller",
    "load_issuers",
    "new_key",
    "parse_issuers",
    "parse_key",
]
