"""A step that was approved runs as it was approved, or not at all."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from executor_fakes import FakeScheduler, lease
from wfe_engine.digests import approval_digest


def approved(value: Any, **changes: Any) -> Any:
    """A lease with the digest of its own request, but for what is changed after that."""
    plain = lease("echo", value)
    digest = approval_digest(str(UUID(bytes=plain.run)), plain.path, "", plain.kind, json.loads(plain.request or b""))
    return lease("echo", value, approval="g", digest=digest, run=plain.run, no=plain.no, **changes)


async def test_what_was_approved_runs(scheduler: FakeScheduler, start: Any) -> None:
    executor = await start()
    step = approved({"amount": 7})
    await scheduler.hand(executor.id, step)
    outcome = await scheduler.outcome(step)
    assert (outcome.failure, json.loads(outcome.output or b"")) == (None, {"amount": 7})


@pytest.mark.parametrize(
    "changes",
    [
        {"request": b'{"handler":"echo","input":{"amount":8}}'},
        {"request": b'{"handler":"give","input":{"amount":7}}'},
        {"path": "other"},
        {"iteration": "3"},
    ],
)
async def test_anything_else_is_refused_before_it_begins(scheduler: FakeScheduler, start: Any, changes: Any) -> None:
    executor = await start()
    step = approved({"amount": 7}, **changes)
    await scheduler.hand(executor.id, step)
    failure = (await scheduler.outcome(step)).failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("APPROVAL_MISMATCH", False)
