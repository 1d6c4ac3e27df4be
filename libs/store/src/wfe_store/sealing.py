"""Encryption of what must not be readable in the store: sensitive values of runs, and secrets.

AES-256-GCM. What is stored names the key it was sealed with, so that keys can be exchanged one after the other:

    WFE1 | id of the key, 8 bytes | nonce, 12 bytes | ciphertext and tag

The key file holds keys of 32 bytes in Base64, a line each. The first seals; all of them open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
#: Seconds after which a changed key file has surely been read again.
FRESH_SECONDS = 1.0

_MAGIC = b"WFE1"
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEADER_BYTES = len(_MAGIC) + _ID_BYTES


class Unreadable(Exception):
    """No key at hand opens this, or it is not what it should be."""


class Cipher(Protocol):
    """Seals and opens. `bound` ties what is sealed to its place: it opens nowhere else."""

    def seal(self, bound: bytes, value: bytes) -> bytes:
        """What to store of a value."""
        ...

    def open(self, bound: bytes, sealed: bytes) -> bytes:
        """The value.

        Raises:
            Unreadable: No key opens it there.
        """
        ...


def key_id(key: bytes) -> bytes:
    """What names a key without telling it."""
    return hashlib.sha256(b"wfe seal key" + key).digest()[:_ID_BYTES]


class Keyring:
    """Keys; the first of them seals.

    Args:
        keys: 32 bytes each.

    Raises:
        ValueError: There are none, or one has another length.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"it must hold keys of {KEY_BYTES} bytes in Base64, a line each")
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.current = key_id(keys[0])

    @property
    def ids(self) -> tuple[bytes, ...]:
        """Ids of all keys, the present one first."""
        return tuple(self._ciphers)

    @property
    def header(self) -> bytes:
        """How everything begins that the present key has sealed."""
        return _MAGIC + self.current

    def seal(self, bound: bytes, value: bytes) -> bytes:
        """See `Cipher`."""
        nonce = os.urandom(_NONCE_BYTES)
        return self.header + nonce + self._ciphers[self.current].encrypt(nonce, value, bound)

    def open(self, bound: bytes, sealed: bytes) -> bytes:
        """See `Cipher`."""
        named = self._ciphers.get(sealed[len(_MAGIC) : _HEADER_BYTES]) if sealed.startswith(_MAGIC) else None
        try:
            if named is not None:
                body = sealed[_HEADER_BYTES:]
                return named.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            pass
        # Sealed before keys had ids.
        for cipher in self._ciphers.values():
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
            except (InvalidTag, ValueError):
                continue
        raise Unreadable


class KeyFile:
    """A keyring in a file, read again when the file changes: keys are exchanged without a restart.

    Args:
        path: The file.

    Raises:
        ValueError: It cannot be read, or does not hold keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._ring = Keyring(read_keys(path))
        self._looked = time.monotonic()

    def ring(self, *, now: bool = False) -> Keyring:
        """The keys as the file has them; those known before while it cannot be read."""
        if now or time.monotonic() - self._looked > FRESH_SECONDS:
            self._looked = time.monotonic()
            try:
                stamp = self._stamp()
                if stamp != self._seen:
                    self._ring, self._seen = Keyring(read_keys(self._path)), stamp
            except ValueError:
                pass
        return self._ring

    def seal(self, bound: bytes, value: bytes) -> bytes:
        """See `Cipher`."""
        return self.ring().seal(bound, value)

    def open(self, bound: bytes, sealed: bytes) -> bytes:
        """See `Cipher`."""
        try:
            return self.ring().open(bound, sealed)
        except Unreadable:
            return self.ring(now=True).open(bound, sealed)  # perhaps sealed with a key that has just come

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as fault:
            raise ValueError(f"{fault}") from fault
        return found.st_ino, found.st_mtime_ns, found.st_size


def read_keys(path: Path) -> list[bytes]:
    """The keys of a file, in its order.

    Raises:
        ValueError: It cannot be read, or holds something else.
    """
    try:
        keys = [base64.b64decode(line.strip(), validate=True) for line in path.read_text().split("\n") if line.strip()]
    except (OSError, UnicodeError, binascii.Error) as fault:
        raise ValueError(f"{fault}") from fault
    Keyring(keys)
    return keys


def keys_text(keys: Sequence[bytes]) -> str:
    """What a file with these keys holds."""
    return "".join(base64.b64encode(key).decode() + "\n" for key in keys)


def bound_to_run(run: bytes, name: str) -> bytes:
    """Place of a sensitive value: 16 bytes of the run's UUID, and the variable."""
    return run + name.encode()


def bound_to_owner(owner: bytes, name: str, version: int) -> bytes:
    """Place of a secret: 16 bytes of the owner's UUID, its name and version."""
    return b"secret\0" + owner + version.to_bytes(4, "big") + name.encode()


def bound_to_webhook(webhook: bytes, secret: bytes) -> bytes:
    """Place of a key that deliveries are signed with: 16 bytes each of the webhook's UUID and the key's."""
    return b"webhook\0" + webhook + secret


def bound_to_hook(hook: bytes) -> bytes:
    """Place of the secret that calls of a hook are signed with: 16 bytes of the hook's UUID."""
    return b"hook\0" + hook
