"""Some of the points of every use case; `make crash-points` looks at all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.crash.cases import CASES
from tests.crash.points import Result, look

#: The driver's pipeline, ended by an exception from within, complains when it is forgotten.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <generator object BasePipeline:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def results(pytestconfig: Any) -> Iterator[list[Result]]:
    """What was looked at; the sum is printed."""
    found: list[Result] = []
    yield found
    covered, existing = sum(result.covered for result in found), sum(result.existing for result in found)
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{covered} of {existing} crash points covered; all of them: make crash-points")


def some(count: int) -> list[int]:
    return sorted({0, count // 2, count - 1})


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_crash_at_an_await_changes_nothing_in_the_end(database_url, case, results):
    result = await look(database_url, case, some)
    results.append(result)
    assert result.covered >= 2
    assert not result.wrong, result.wrong[0]
