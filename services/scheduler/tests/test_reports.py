"""What becomes of executors' reports."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from wfe_bus import messages as m
from wfe_scheduler.executors import Executors


@pytest.mark.parametrize(("began", "recorded"), [(90.0, 90.0), (100.5, 100.0), (0.0, None)])
async def test_no_step_begins_later_than_its_report_comes(began: float, recorded: float | None) -> None:
    submitted: list[Any] = []
    unused: Any = None
    executors = Executors(
        unused,
        unused,
        SimpleNamespace(now=lambda: 100.0),  # type: ignore[arg-type]
        SimpleNamespace(submit=submitted.append),  # type: ignore[arg-type]
        unused,
        unused,
        scheduler="one",
        lease_seconds=15.0,
    )
    outcome = m.Outcome(run=uuid.uuid4().bytes, no=1, fence=1, output=b"1", started_at=began)
    report = m.Report(executor=uuid.uuid4().hex, queues=["default"], outcomes=[outcome], room=0)
    await executors._on_report(SimpleNamespace(data=msgspec.msgpack.encode(report)))  # type: ignore[arg-type]
    assert [item.command.started_at for item in submitted] == [recorded]
