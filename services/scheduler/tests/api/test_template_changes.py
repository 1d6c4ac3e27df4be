"""What changed between two published versions, over gRPC."""

from __future__ import annotations

from typing import Any

import pytest
from wfe.api.v1 import template_service_pb2 as pb
from wfe_servicekit.testing import refused

from .conftest import Api, fields, plain

FIRST = """
name: changing
variables: {tone: {type: string, enum: [plain, formal], default: plain}}
steps: [{id: a, set: {x: 1}}]
output: "${{ steps.a.output.x }}"
"""
SECOND = FIRST.replace("x: 1}", "x: 2}").replace("[plain, formal]", "[plain]")


@pytest.fixture
async def changing(api: Api) -> str:
    """A template of three versions; the last is the second again."""
    made = await api.templates.CreateTemplate(pb.CreateTemplateRequest(source=FIRST), metadata=api.ann)
    for source in (FIRST, SECOND, SECOND):
        await api.templates.UpdateTemplate(pb.UpdateTemplateRequest(id=made.id, source=source), metadata=api.ann)
        await api.templates.PublishTemplate(pb.PublishTemplateRequest(id=made.id), metadata=api.ann)
    return str(made.id)


async def compare(api: Api, template: str, version: int, since: int = 0, **more: Any) -> Any:
    request = pb.CompareTemplateVersionsRequest(id=template, version=version, since=since)
    return await api.templates.CompareTemplateVersions(request, metadata=more.get("metadata", api.ann))


async def test_a_version_is_compared_with_the_one_before_it_or_with_the_one_that_is_named(api: Api, changing: str):
    answer = plain(await compare(api, changing, 2))
    assert (answer["version"], answer["since"], answer["breaking"]) == (2, 1, True)
    tone, step = answer["changes"]
    assert (tone["path"], tone["breaking"], tone["old"], tone["new"]) == (
        "variables.tone.enum", True, ["plain", "formal"], ["plain"]
    )  # fmt: skip
    assert tone["why"]
    assert (step["path"], step["change"], step["old"], step["new"]) == ("steps.a.params.x", "changed", 1.0, 2.0)
    assert plain(await compare(api, changing, 3)) == {"version": 3, "since": 2}
    back = plain(await compare(api, changing, 1, since=3))
    assert (back.get("breaking", False), len(back["changes"])) == (False, 2), "what allows more breaks nobody"


async def test_what_cannot_be_compared(api: Api, changing: str):
    assert fields(await refused(compare(api, changing, 1))) == {"since"}
    assert fields(await refused(compare(api, "x", 0, since=-1))) == {"id", "version", "since"}
    assert (await refused(compare(api, changing, 4))).code.name == "NOT_FOUND"
    assert (await refused(compare(api, changing, 2, since=9))).code.name == "NOT_FOUND"
    assert (await refused(compare(api, changing, 2, metadata=api.rival))).code.name == "NOT_FOUND"
