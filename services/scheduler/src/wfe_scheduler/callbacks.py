"""Tokens of callbacks: made from the run and the callback's name with a key, so that nothing of them is stored.

A token names its run and its callback, and proves by a MAC that the engine made it. It is in no event, row or log:
templates hold a placeholder that an executor resolves in memory. It is good for one answer, because a run takes one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from uuid import UUID

_MAC_BYTES = 24


class Callbacks:
    """Makes and reads tokens.

    Args:
        keys: Of 32 bytes; the first makes tokens, all of them read.
        public_url: What a callback's URL begins with; no slash at the end.
    """

    def __init__(self, keys: Sequence[bytes], public_url: str) -> None:
        self._keys = [hmac.digest(key, b"wfe callbacks", hashlib.sha256) for key in keys]
        self._public_url = public_url

    def url(self, run: UUID, name: str) -> str:
        """Where a callback of a run is answered."""
        mac = self._mac(self._keys[0], run, name)
        token = _text(run.bytes + mac + name.encode())
        return f"{self._public_url}/api/v1/callbacks/{token}"

    def read(self, token: str) -> tuple[UUID, str] | None:
        """Run and name of a token; None when the engine did not make it."""
        if len(token) > 500:
            return None
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            name = data[16 + _MAC_BYTES :].decode()
        except (binascii.Error, ValueError):
            return None
        if len(data) <= 16 + _MAC_BYTES or _text(data) != token:
            return None  # Base64 has several spellings of most bytes
        run, mac = UUID(bytes=data[:16]), data[16 : 16 + _MAC_BYTES]
        known = [hmac.compare_digest(mac, self._mac(key, run, name)) for key in self._keys]
        return (run, name) if any(known) else None

    @staticmethod
    def _mac(key: bytes, run: UUID, name: str) -> bytes:
        return hmac.digest(key, run.bytes + name.encode(), hashlib.sha256)[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
