"""SecretService: secrets of an owner. Served here, because the scheduler alone holds the keys they are sealed with."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from wfe.api.v1 import secret_service_pb2 as pb
from wfe.api.v1 import secret_service_pb2_grpc
from wfe_engine.errors import InvalidInput, StateConflict
from wfe_language import is_secret_name
from wfe_servicekit.calls import current_caller
from wfe_servicekit.checks import Violations, timestamp
from wfe_store.secrets import Secret, Secrets

from wfe_scheduler.api import requests
from wfe_scheduler.seal import Sealer

#: Bytes a value may have. Shorter ones could not be told from other text where they are redacted.
LEAST_BYTES, MOST_BYTES = 4, 64 << 10

_log = structlog.get_logger("wfe.secrets")


class SecretService(secret_service_pb2_grpc.SecretServiceServicer):  # type: ignore[misc]
    """Seals values on their way in. Nothing here opens one."""

    def __init__(self, secrets: Secrets, sealer: Sealer | None) -> None:
        self._secrets = secrets
        self._sealer = sealer

    async def PutSecret(self, request: pb.PutSecretRequest, context: Any) -> pb.Secret:
        """Set a secret: its first version or the next one.

        Raises:
            InvalidInput: With everything wrong in the request; the value is never in the message.
            StateConflict: It has another version than expected; or this scheduler has no key.
            ResourceExhausted: There are too many.
        """
        faults = Violations()
        with faults.collect():
            _check_name(request.name)
        with faults.collect():
            _check_value(request.value)
        expected = None
        if request.HasField("expected_version"):
            expected = requests.at_least(faults, request.expected_version, "expected_version", 0)
        faults.raise_if_any()
        sealer = self._sealer
        if sealer is None:
            raise StateConflict("this scheduler has no WFE_SEAL_KEY_FILE", reason="NO_SEAL_KEY")
        caller, name, value = current_caller(), request.name, msgspec.json.encode(request.value)
        made = await self._secrets.put(
            caller.owner_id,
            caller.principal_id,
            name,
            lambda version: sealer.seal_secret(caller.owner_id, name, version, value),
            expected=expected,
        )
        version = made.versions[0].version
        _log.info("secret set", secret=name, version=version, principal=str(caller.principal_id))
        return _message(made)

    async def ListSecrets(self, request: pb.ListSecretsRequest, context: Any) -> pb.ListSecretsResponse:
        """A page of the owner's secrets, by name."""
        faults = Violations()
        limit, offset = requests.page_of(faults, request)
        faults.raise_if_any()
        found, total = await self._secrets.list(current_caller().owner_id, limit=limit, offset=offset)
        return pb.ListSecretsResponse(
            secrets=[_message(secret) for secret in found], total=total, limit=limit, offset=offset
        )

    async def DeleteSecret(self, request: pb.DeleteSecretRequest, context: Any) -> pb.Secret:
        """Remove a secret.

        Raises:
            InvalidInput: The name cannot be one.
            NotFound: The owner has no such secret.
        """
        _check_name(request.name)
        caller = current_caller()
        gone = await self._secrets.delete(caller.owner_id, request.name)
        _log.info("secret deleted", secret=request.name, principal=str(caller.principal_id))
        return _message(gone)


def _check_name(name: str) -> None:
    if not is_secret_name(name):
        rule = "must be letters, digits and _, beginning with a letter, at most 100 characters"
        raise InvalidInput(rule, field="name")


def _check_value(value: str) -> None:
    size = len(value.encode())
    if not LEAST_BYTES <= size <= MOST_BYTES:
        raise InvalidInput(f"must have {LEAST_BYTES} to {MOST_BYTES} bytes, has {size}", field="value")
    if "\0" in value:
        raise InvalidInput("holds a NUL character", field="value")


def _message(secret: Secret) -> pb.Secret:
    newest, oldest = secret.versions[0], secret.versions[-1]
    return pb.Secret(
        name=secret.name,
        version=newest.version,
        created_at=timestamp(oldest.created_at),
        updated_at=timestamp(newest.created_at),
        updated_by=str(newest.created_by),
        versions=[
            pb.SecretVersion(version=one.version, created_at=timestamp(one.created_at), created_by=str(one.created_by))
            for one in secret.versions
        ],
    )
