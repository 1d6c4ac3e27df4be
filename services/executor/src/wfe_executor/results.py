"""Outputs that are too large to travel with their report are stored first, part by part."""

from __future__ import annotations

from uuid import uuid4

from wfe_bus import messages, subjects
from wfe_bus.messages import PART_BYTES, REPORT_BYTES, Failure, PartStored, StoredOutput, StorePart

from wfe_executor.attempts import Attempt, LeaseLost
from wfe_executor.link import Link
from wfe_executor.outputs import failure

#: Bytes a message has besides its part.
_ENVELOPE_BYTES = 1024

_stored = messages.decoder(PartStored).decode


async def settled(link: Link, attempt: Attempt, data: bytes) -> bytes | StoredOutput | Failure:
    """An output as its report has it; a large one is in the store by then.

    Raises:
        LeaseLost: A scheduler said so.
    """
    if len(data) <= REPORT_BYTES:
        return data
    if link.message_bytes < PART_BYTES + _ENVELOPE_BYTES:
        return failure("OUTPUT_TOO_LARGE", "the bus does not carry an output of this size", retryable=False)
    blob = uuid4().bytes
    for number, at in enumerate(range(0, len(data), PART_BYTES)):
        part = StorePart(
            executor=link.executor, lease=attempt.ref, blob=blob, number=number, data=data[at : at + PART_BYTES]
        )
        if (await link.ask(subjects.STORE, part, _stored)).stale:
            raise LeaseLost
    return StoredOutput(blob=blob, size=len(data))
