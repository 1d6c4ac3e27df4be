"""Sealed values: what a template calls sensitive, and secrets, are encrypted before anything else sees them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from wfe_bus.messages import SEALED
from wfe_engine.errors import InvalidInput, StateConflict
from wfe_engine.plan import Variable
from wfe_store.sealing import Cipher, KeyFile, bound_to_owner, bound_to_run

#: Bytes of JSON of a run's sensitive values, all of them: an executor is given them in one message of the bus.
MOST_SEALED = 512 * 1024


class Sealer:
    """Encrypts, bound to the run and the variable's name, or to the owner and the secret's name and version.

    Args:
        cipher: The keys.
    """

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """A sealer with the keys of a file.

        Raises:
            ValueError: The file cannot be read, or does not hold keys.
        """
        try:
            return cls(KeyFile(path))
        except ValueError as fault:
            raise ValueError(f"WFE_SEAL_KEY_FILE: {fault}") from fault

    def seal(self, run: UUID, name: str, value: bytes) -> bytes:
        """What to store of a sensitive value."""
        return self._cipher.seal(bound_to_run(run.bytes, name), value)

    def unseal(self, run: UUID, name: str, sealed: bytes) -> bytes:
        """The sensitive value.

        Raises:
            wfe_store.sealing.Unreadable: It is not one of this run and variable, or of a key that is gone.
        """
        return self._cipher.open(bound_to_run(run.bytes, name), sealed)

    def seal_secret(self, owner: UUID, name: str, version: int, value: bytes) -> bytes:
        """What to store of a secret."""
        return self._cipher.seal(bound_to_owner(owner.bytes, name, version), value)

    def unseal_secret(self, owner: UUID, name: str, version: int, sealed: bytes) -> bytes:
        """The secret's value.

        Raises:
            wfe_store.sealing.Unreadable: It is not that secret's, or of a key that is gone.
        """
        return self._cipher.open(bound_to_owner(owner.bytes, name, version), sealed)


def named_in(request: bytes, what: str) -> frozenset[str]:
    """Names of what a request's placeholders stand for.

    Args:
        what: secret or callback.
    """
    found: set[str] = set()
    waiting: list[Any] = [msgspec.json.decode(request)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            parts = value.get(SEALED)
            if isinstance(parts, list):
                found |= set(_named(parts, what))
            else:
                waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return frozenset(found)


def _named(parts: Iterable[Any], what: str) -> Iterable[str]:
    for part in parts:
        if isinstance(part, dict) and isinstance(part.get(what), str):
            yield part[what]


def seal_variables(
    sealer: Sealer | None, run: UUID, variables: Iterable[Variable], values: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Values with placeholders for the sensitive ones, and what to store of those.

    Raises:
        StateConflict: There is something to seal and no key to seal it with.
        InvalidInput: It is more than an executor can be given in one message.
    """
    sealed: dict[str, bytes] = {}
    shown = dict(values)
    size = 0
    for variable in variables:
        if not variable.sensitive or variable.name not in shown:
            continue
        if sealer is None:
            raise StateConflict(
                f"variable {variable.name} is sensitive and this scheduler has no WFE_SEAL_KEY_FILE",
                reason="NO_SEAL_KEY",
                variable=variable.name,
            )
        value = msgspec.json.encode(shown[variable.name])
        size += len(value)
        if size > MOST_SEALED:
            message = f"is more than fits: the sensitive values of a run have at most {MOST_SEALED} bytes as JSON"
            raise InvalidInput(message, field=f"input.{variable.name}", reason="INVALID_RUN_INPUT")
        sealed[variable.name] = sealer.seal(run, variable.name, value)
        shown[variable.name] = {SEALED: [{"var": variable.name}]}
    return shown, sealed
