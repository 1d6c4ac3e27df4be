"""Templates in the documentation are published as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["steps-http", "steps-mcp", "steps-agent", "secrets"])
async def test_a_pages_templates_are_published(publish, sam, page: str):
    sources = re.findall(r"```yaml\n(name: .*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    assert sources
    for source in sources:
        template = await sam.get(f"/api/v1/templates/{await publish(source)}")
        assert template["latest_version"] >= 1
