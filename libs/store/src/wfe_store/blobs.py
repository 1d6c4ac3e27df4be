"""Values too large for a row: kept out of line, in parts, with a reference where they would have stood.

A reference is the JSON object {"$blob": id, "bytes": length}; no value of a user may have that key. Parts go with
their run: they are dropped with its month.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

from wfe_store.pool import Connection, fetch_all, fetch_one

#: Bytes of JSON that still stand in a row.
INLINE_BYTES = 256 * 1024
#: Bytes of a part; all but the last are as long.
PART_BYTES = 512 * 1024

_REFERENCE = re.compile(r'\{"\$blob":"([0-9a-f]{32})","bytes":(\d{1,12})\}')


class StoredBytes(bytes):
    """JSON bytes that are in the store already.

    Attributes:
        reference: What stands for them in a row.
    """

    reference: str

    @classmethod
    def of(cls, data: bytes, blob: UUID) -> StoredBytes:
        """Bytes with the blob that holds them."""
        made = cls(data)
        made.reference = reference_to(blob, len(data))
        return made


def reference_to(blob: UUID, size: int) -> str:
    """What stands for a blob in a row."""
    return f'{{"$blob":"{blob.hex}","bytes":{size}}}'


def referred(text: str) -> tuple[UUID, int] | None:
    """Blob and length, when a text of a row is a reference; None for a value."""
    if not text.startswith('{"$blob":'):
        return None
    match = _REFERENCE.fullmatch(text)
    return None if match is None else (UUID(match[1]), int(match[2]))


def parts_of(data: bytes) -> list[bytes]:
    """Bytes cut into parts."""
    return [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]


def out_of_line(data: bytes, rows: Any, run: UUID) -> str:
    """What stands in a row for JSON bytes; what is too large for it is added to the rows of blobs."""
    if isinstance(data, StoredBytes):
        return data.reference
    if len(data) <= INLINE_BYTES:
        return data.decode()
    blob = uuid4()
    for number, part in enumerate(parts_of(data)):
        rows.add(run, blob, number, part)
    return reference_to(blob, len(data))


async def put_part(
    connection: Connection, run: UUID, no: int, fence: int, blob: UUID, number: int, data: bytes
) -> bool:
    """Keep one part for whoever holds a lease under its fence; False when it is not held. Safe to repeat."""
    row = await fetch_one(
        connection,
        """
        WITH held AS (
            SELECT 1 FROM dispatch WHERE run_id = %s AND no = %s AND fence = %s AND executor_id IS NOT NULL
        ), kept AS (
            INSERT INTO blobs (run_id, id, part, data) SELECT %s, %s, %s, %s FROM held ON CONFLICT DO NOTHING
        )
        SELECT count(*) FROM held
        """,
        (run, no, fence, run, blob, number, data),
    )
    return row is not None and row[0] == 1


async def load_blobs(connection: Connection, wanted: Iterable[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], bytes]:
    """Blobs, whole, by (run, blob); those without any part are missing."""
    pairs = list(wanted)
    cursor = await connection.execute(
        "SELECT b.run_id, b.id, string_agg(b.data, ''::bytea ORDER BY b.part)"
        " FROM unnest(%b::uuid[], %b::uuid[]) AS d (run_id, id) JOIN blobs b ON b.run_id = d.run_id AND b.id = d.id"
        " GROUP BY b.run_id, b.id",
        ([run for run, _ in pairs], [blob for _, blob in pairs]),
    )
    return {(run, blob): bytes(data) for run, blob, data in await cursor.fetchall()}


async def load_blob(connection: Connection, run: UUID, blob: UUID, size: int) -> StoredBytes | None:
    """A blob, whole; None when it is not there with that length."""
    data = (await load_blobs(connection, [(run, blob)])).get((run, blob))
    return None if data is None or len(data) != size else StoredBytes.of(data, blob)


async def read_range(connection: Connection, run: UUID, blob: UUID, offset: int, length: int) -> bytes:
    """At most so many bytes of a blob, from an offset; empty behind its end."""
    first, last = offset // PART_BYTES, (offset + length - 1) // PART_BYTES
    rows = await fetch_all(
        connection,
        "SELECT data FROM blobs WHERE run_id = %s AND id = %s AND part BETWEEN %s AND %s ORDER BY part",
        (run, blob, first, last),
    )
    begin = offset - first * PART_BYTES
    return b"".join(bytes(row[0]) for row in rows)[begin : begin + length]


async def find_blob(connection: Connection, owner: UUID, run: UUID, blob: UUID) -> int | None:
    """Length of a blob of an owner's run; None when there is none."""
    row = await fetch_one(
        connection,
        "SELECT sum(octet_length(b.data)) FROM blobs b JOIN runs r ON r.id = b.run_id"
        " WHERE b.run_id = %s AND b.id = %s AND r.owner_id = %s",
        (run, blob, owner),
    )
    return None if row is None or row[0] is None else int(row[0])
