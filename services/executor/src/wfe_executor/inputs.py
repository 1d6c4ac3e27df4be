"""What a lease's request needs before it can run: the rest of a large one, and its sealed values."""

from __future__ import annotations

from typing import Any

import msgspec
from wfe_bus import messages, subjects
from wfe_bus.messages import Chunk, Failure, FetchInput, Unseal, Unsealed

from wfe_executor.attempts import Attempt, LeaseLost
from wfe_executor.link import Link
from wfe_executor.outputs import StepFailed, failure
from wfe_executor.sealed import Redactor, key_of, unsealed

#: Bytes a request may have.
REQUEST_BYTES = 16 * 1024 * 1024

_chunk = messages.decoder(Chunk).decode
_unsealed = messages.decoder(Unsealed).decode
_any = msgspec.json.Decoder().decode


async def request_of(link: Link, attempt: Attempt) -> bytes:
    """The request's JSON, fetched in chunks when it did not travel with the lease.

    Raises:
        LeaseLost: A scheduler said so.
        StepFailed: INPUT_TOO_LARGE; REQUEST_INVALID, for a length that cannot be.
    """
    if attempt.lease.request is not None:
        return attempt.lease.request
    parts = bytearray()
    while True:
        ask = FetchInput(executor=link.executor, lease=attempt.ref, offset=len(parts))
        chunk = await link.ask(subjects.FETCH, ask, _chunk)
        if chunk.stale:
            raise LeaseLost
        if chunk.total > REQUEST_BYTES:
            message = f"the step's input has {chunk.total} bytes as JSON, at most {REQUEST_BYTES} are run"
            details = {"bytes": chunk.total, "limit": REQUEST_BYTES}
            raise StepFailed(failure("INPUT_TOO_LARGE", message, retryable=False, details=details))
        parts += chunk.data
        if len(parts) >= chunk.total:
            return bytes(parts)
        if not chunk.data:
            raise StepFailed(failure("REQUEST_INVALID", "the step's input could not be fetched whole"))


async def unsealed_request(link: Link, attempt: Attempt, request: bytes) -> Any:
    """The request with its sealed values in place. From here on the attempt has a redactor.

    Raises:
        LeaseLost: A scheduler said so.
        StepFailed: SEALED_INVALID, SECRET_MISSING, SECRET_UNREADABLE.
    """
    ask = Unseal(executor=link.executor, lease=attempt.ref)
    answer = await link.ask(subjects.UNSEAL, ask, _unsealed)
    if answer.stale:
        raise LeaseLost
    if answer.missing:
        why = "there is no such secret; set it with `wfe secrets set`"
        raise StepFailed(_lacking("SECRET_MISSING", answer.missing, why))
    if answer.unreadable:
        why = "sealed with a key that is gone; give the value anew"
        raise StepFailed(_lacking("SECRET_UNREADABLE", answer.unreadable, why))
    values = {name: _any(value) for name, value in answer.values.items()}
    values |= {key_of("secret", name): _any(value) for name, value in answer.secrets.items()}
    values |= {key_of("callback", key): _any(value) for key, value in answer.callbacks.items()}
    attempt.redactor = Redactor(values)
    return unsealed(_any(request), values)


def _lacking(code: str, names: tuple[str, ...], why: str) -> Failure:
    message = f"{', '.join(names)}: {why}"
    return failure(code, message, retryable=False, details={"secrets": list(names)})
