"""Signatures by the Standard Webhooks specification, and the keys they are made with.

The library signs and verifies v1. What it does not do is here: v1a (ed25519), and refusing what it would stumble
over or take too generously.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks import Webhook as Hmac
from standardwebhooks import WebhookVerificationError
from wfe_engine.errors import InvalidInput, Unauthenticated

KINDS = ("v1", "v1a")
#: Bytes of a fresh v1 secret; the specification allows 24 to 64.
SECRET_BYTES = 32
#: Seconds a call's timestamp may be off.
TOLERANCE_SECONDS = 300

_SECRET, _PRIVATE, _PUBLIC = "whsec_", "whsk_", "whpk_"
#: Characters of a signature header, and signatures in it: each costs a comparison.
_MOST_HEADER, _MOST_SIGNATURES = 1024, 8
# The library would take "1_674", " 1674 " and "1e9" for numbers.
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_ID = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Fresh:
    """A fresh key.

    Attributes:
        kind: v1 or v1a.
        secret: What signs, as text; of v1 the receiver gets it too.
        public_key: What verifies; of v1a.
    """

    kind: str
    secret: str
    public_key: str = ""


def fresh_key(kind: str) -> Fresh:
    """A fresh key of one of KINDS."""
    if kind == "v1":
        return Fresh(kind, _SECRET + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())
    private = Ed25519PrivateKey.generate()
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    return Fresh(kind, _PRIVATE + base64.b64encode(private.private_bytes_raw()).decode(), _PUBLIC + public)


def check_secret(text: str, field: str = "secret") -> str:
    """A v1 secret somebody else made.

    Raises:
        InvalidInput: It is not whsec_ and Base64 of 24 to 64 bytes.
    """
    try:
        size = len(base64.b64decode(text.removeprefix(_SECRET), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not text.startswith(_SECRET) or not 24 <= size <= 64:
        raise InvalidInput("must be whsec_ followed by Base64 of 24 to 64 bytes", field=field)
    return text


class Signer:
    """Signs with one key, of either kind; keep it, making one costs more than a signature."""

    def __init__(self, secret: str) -> None:
        self._hmac = self._private = None
        if secret.startswith(_PRIVATE):
            self._private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret.removeprefix(_PRIVATE)))
        else:
            self._hmac = Hmac(secret)

    def sign(self, message_id: str, moment: datetime, body: str) -> str:
        """The signature of a body at a moment, with its version before it.

        Args:
            message_id: The webhook-id header.
            moment: In UTC: the library signs another one's digits as if they were.
            body: As it is sent, in UTF-8.
        """
        if moment.tzinfo is not UTC:
            raise ValueError("the moment must be in UTC")
        if self._hmac is not None:
            return str(self._hmac.sign(message_id, moment, body))
        assert self._private is not None
        signed = f"{message_id}.{int(moment.timestamp())}.{body}".encode()
        return "v1a," + base64.b64encode(self._private.sign(signed)).decode()


def signed_headers(signers: Iterable[Signer], message_id: str, body: str, moment: datetime) -> dict[str, str]:
    """The three headers of a call, with a signature of each key."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signer.sign(message_id, moment, body) for signer in signers),
    }


def verify_standard(
    secret: str, body: bytes, *, message_id: str | None, timestamp: str | None, signature: str | None
) -> str:
    """Check a call signed with a v1 secret, over its raw body; gives the message's id.

    Raises:
        Unauthenticated: Whatever is wrong with it.
    """
    well_formed = (
        message_id is not None
        and timestamp is not None
        and signature is not None
        and _ID.fullmatch(message_id) is not None
        and _TIMESTAMP.fullmatch(timestamp) is not None
        and len(signature) <= _MOST_HEADER
        and len(signature.split(" ")) <= _MOST_SIGNATURES
    )
    if not well_formed:
        raise refusal()
    assert message_id is not None
    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    try:
        Hmac(secret).verify(body.decode(), headers, json_parse=False)  # type: ignore[arg-type]
    # What is malformed it does not catch itself: Base64, UTF-8, a signature without its version.
    except (WebhookVerificationError, ValueError, OverflowError):
        raise refusal() from None
    return message_id


def verify_v1a(public_key: str, message_id: str, timestamp: str, body: bytes, signature: str) -> bool:
    """Whether one of the signatures of a header is the key's; for receivers and tests, without the time's check."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix(_PUBLIC)))
    for one in signature.split(" ")[:_MOST_SIGNATURES]:
        version, _, text = one.partition(",")
        if version != "v1a":
            continue
        try:
            key.verify(base64.b64decode(text, validate=True), f"{message_id}.{timestamp}.".encode() + body)
        except (InvalidSignature, binascii.Error, ValueError):
            continue
        return True
    return False


def refusal() -> Unauthenticated:
    """The one answer to calls that are not let in: what is wrong helps nobody but a forger."""
    return Unauthenticated("there is no such hook, or the signature is missing or not valid")
