"""API keys: `wfe_<id>_<secret>_<check>`.

The id (8 characters) is public and finds the key; the secret (43 characters, 256 bits) is never stored, only
its SHA-256: with so much chance in it a slow hash would protect nothing and cost the service its speed. The
check is the CRC-32 of all before it, so that a mistyped or made-up key is refused without asking the store,
and a leaked one is found by scanners without false alarms. All characters are base 62.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from typing import NamedTuple

from wfe_engine.errors import Unauthenticated

__all__ = ["NewKey", "ParsedKey", "new_key", "parse_key", "refusal"]

PREFIX = "wfe_"
KEY_LENGTH = 4 + 8 + 1 + 43 + 1 + 6

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"wfe_([0-9A-Za-z]{8})_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})")


class NewKey(NamedTuple):
    """A key just made.

    Attributes:
        key_id: Public part, 8 characters.
        text: The whole key; shown once, never stored.
        hash: What is stored, 32 bytes.
    """

    key_id: str
    text: str
    hash: bytes


class ParsedKey(NamedTuple):
    """A key as it was presented: well-formed, not yet known to be anybody's."""

    key_id: str
    hash: bytes


def refusal() -> Unauthenticated:
    """The one error for whatever is wrong with credentials; it says nothing about what that is."""
    return Unauthenticated("credentials are missing or not valid")


def new_key() -> NewKey:
    """A new key from the machine's source of chance."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(43))
    body = f"{PREFIX}{key_id}_{secret}"
    return NewKey(key_id, f"{body}_{_check(body)}", _hash(secret))


def parse_key(text: str) -> ParsedKey:
    """Id and secret's hash of a presented key.

    Raises:
        Unauthenticated: Not of a key's form, or the check does not fit.
    """
    found = _KEY.fullmatch(text)
    if found is None or _check(text[: KEY_LENGTH - 7]) != found[3]:
        raise refusal()
    return ParsedKey(found[1], _hash(found[2]))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _check(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits
