"""Some of the points of every use case; `make crash-points` looks at all of them."""

from __future__ import annotations

import pytest

from tests.crash.cases import CASES
from tests.crash.points import look


def some(count: int) -> list[int]:
    return [count // 2]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_crash_at_an_await_changes_nothing_in_the_end(database_url, case):
    result = await look(database_url, case, some)
    assert result.covered >= 2
    assert not result.wrong, result.wrong[0]
