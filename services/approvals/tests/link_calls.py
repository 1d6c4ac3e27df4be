"""Calls that tests about links make."""

from __future__ import annotations

import uuid
from typing import Any

from wfe.api.v1 import approval_service_pb2 as pb
from wfe_store.pool import fetch_all


async def issue(world: Any, gate: uuid.UUID, by: str = "root", to: str = "ada", **more: Any) -> str:
    made = await world.approvals.IssueLink(
        pb.IssueLinkRequest(approval_id=str(gate), to=to, **more), metadata=await world.as_(by)
    )
    assert made.path.startswith("/api/v1/links/wfl_")
    return str(made.path.rpartition("/")[2])


async def sql(world: Any, statement: str, *given: Any) -> None:
    async with world.database.connection() as connection:
        await connection.execute(statement, given)


async def everything(world: Any) -> list[Any]:
    """All that a look could have changed."""
    async with world.database.connection() as connection:
        return [
            await fetch_all(connection, f"SELECT t::text FROM {table} t ORDER BY 1")
            for table in ("gates", "gate_votes", "gate_notes", "gate_links", "runs")
        ]
