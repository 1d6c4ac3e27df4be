"""Large values out of line: in parts, under a fence, read back whole or in ranges."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from wfe_store import statements as sql
from wfe_store.batch import Rows
from wfe_store.blobs import (
    INLINE_BYTES,
    PART_BYTES,
    StoredBytes,
    find_blob,
    load_blob,
    out_of_line,
    parts_of,
    put_part,
    read_range,
    reference_to,
    referred,
)
from wfe_store.children import overdue_wishes
from wfe_store.pool import Database


@pytest.fixture
async def leased(database: Database, owner_id: uuid.UUID, run_id: uuid.UUID) -> uuid.UUID:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO dispatch (run_id, no, owner_id, path, kind, queue, request, attempt, max_attempts, fence,"
            " available_at, executor_id, created_at)"
            " VALUES (%s, 1, %s, 'a', 'call', 'default', '{}', 1, 1, 7, now(), 'e1', now())",
            (run_id, owner_id),
        )
    return run_id


def test_what_fits_stands_in_its_row():
    rows = Rows(sql.BLOBS)
    assert out_of_line(b'"x"', rows, uuid.uuid4()) == '"x"'
    assert rows.rows == []
    run = uuid.uuid4()
    data = b'"' + b"x" * (2 * PART_BYTES) + b'"'
    blob, size = referred(out_of_line(data, rows, run)) or (None, 0)
    assert size == len(data)
    assert [row[:2] for row in rows.rows] == [(run, blob)] * 3
    assert b"".join(row[3] for row in rows.rows) == data
    kept = StoredBytes.of(data, uuid.uuid4())
    assert out_of_line(kept, rows, run) == kept.reference
    assert len(rows.rows) == 3, "what is in the store already is not written again"


@pytest.mark.parametrize(
    "text", ["", "1", '{"a": 1}', '{"$blob":1}', '{"$blob":"x","bytes":1}', reference_to(uuid.UUID(int=1), 1) + " "]
)
def test_what_is_no_reference(text):
    assert referred(text) is None


async def test_parts_need_the_lease_and_may_come_twice(database: Database, leased: uuid.UUID, owner_id, other_owner_id):
    data = bytes(range(256)) * 5000
    blob = uuid.uuid4()
    async with database.connection() as connection:
        for number, part in enumerate(parts_of(data)):
            assert await put_part(connection, leased, 1, 7, blob, number, part)
            assert await put_part(connection, leased, 1, 7, blob, number, b"late")
        assert not await put_part(connection, leased, 1, 6, blob, 9, b"x")
        assert not await put_part(connection, leased, 2, 7, blob, 9, b"x")
        whole: Any = await load_blob(connection, leased, blob, len(data))
        assert whole == data
        assert whole.reference == reference_to(blob, len(data))
        assert await load_blob(connection, leased, blob, len(data) + 1) is None
        assert await load_blob(connection, leased, uuid.uuid4(), 1) is None
        for offset, length in ((0, 10), (PART_BYTES - 5, 10), (100, 2 * PART_BYTES), (len(data) - 3, 99), (10**8, 5)):
            assert await read_range(connection, leased, blob, offset, length) == data[offset : offset + length]
        assert await find_blob(connection, owner_id, leased, blob) == len(data)
        assert await find_blob(connection, other_owner_id, leased, blob) is None


def test_a_value_at_the_limit_stands_in_its_row():
    rows = Rows(sql.BLOBS)
    out_of_line(b"1" * INLINE_BYTES, rows, uuid.uuid4())
    assert rows.rows == []
    out_of_line(b"1" * (INLINE_BYTES + 1), rows, uuid.uuid4())
    assert len(rows.rows) == 1


async def test_a_large_request_for_a_child_run_is_whole_for_who_carries_it_out(database: Database, run_id, owner_id):
    rows = Rows(sql.BLOBS)
    request = '{"input":"' + "y" * 700_000 + '"}'
    shown = out_of_line(request.encode(), rows, run_id)
    async with database.connection() as connection:
        for row in rows.rows:
            await connection.execute("INSERT INTO blobs (run_id, id, part, data) VALUES (%s, %s, %s, %s)", row)
        for no, text in ((1, shown), (2, "{}")):
            await connection.execute(
                "INSERT INTO children (run_id, no, child_id, owner_id, started_by, wish, request, wished_at)"
                " VALUES (%s, %s, %s, %s, %s, 'start', %s, now() - interval '1 hour')",
                (run_id, no, uuid.uuid4(), owner_id, owner_id, text),
            )
        wishes = [wish for wish in await overdue_wishes(connection, 1.0) if wish.run == run_id]
    assert sorted(len(wish.request) for wish in wishes) == [2, len(request)]
    assert request in [wish.request for wish in wishes]
