"""Sealed values: what a template calls sensitive is encrypted before anything else sees it."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Sealer:
    """Encrypts with AES-256-GCM, bound to the run and the variable's name.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """A sealer with the key of a file.

        Raises:
            ValueError: The file cannot be read, or does not hold 32 bytes in Base64.
        """
        try:
            key = base64.b64decode(path.read_text().strip(), validate=True)
        except (OSError, binascii.Error) as fault:
            raise ValueError(f"WFE_SEAL_KEY_FILE: {fault}") from fault
        if len(key) != 32:
            raise ValueError("WFE_SEAL_KEY_FILE: it must hold 32 bytes in Base64")
        return cls(key)

    def seal(self, run: UUID, name: str, value: bytes) -> bytes:
        """Nonce and ciphertext of a value."""
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, value, run.bytes + name.encode())

    def unseal(self, run: UUID, name: str, ciphertext: bytes) -> bytes:
        """The value of a ciphertext.

        Raises:
            cryptography.exceptions.InvalidTag: It is not one of this run and variable, or of another key.
        """
        return self._cipher.decrypt(ciphertext[:12], ciphertext[12:], run.bytes + name.encode())
