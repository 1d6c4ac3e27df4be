"""A short sitting of `make chaos` with a fixed seed: faults in every part, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from wfe_stack.testing import TEST_SETTINGS

from tools.chaos.sitting import Settings, report, sit


@pytest.mark.slow
async def test_nothing_is_lost_while_parts_are_killed(pytestconfig: pytest.Config):
    settings = Settings(
        seconds=12.0,
        seed=11,
        clients=10,
        lease_seconds=1.5,
        pause=0.4,
        postgres=TEST_SETTINGS,
        keep=Path(pytestconfig.rootpath) / "build" / "chaos-test",
    )
    result = await sit(settings)
    print("\n" + report(result, settings))
    assert result.violations == []
    assert result.faults == []
    assert result.killed >= 8
    assert {kind.partition(":")[0] for kind in result.kills} >= {"executor", "scheduler", "postgres", "nats"}
    assert len(result.history.runs) > 40
    assert all(start.seen for start in result.history.starts)
