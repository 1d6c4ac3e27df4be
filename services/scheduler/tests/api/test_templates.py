"""TemplateService over gRPC on a real store, and SystemService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest
from wfe.api.v1 import system_service_pb2 as system_pb
from wfe.api.v1 import template_service_pb2 as pb
from wfe_servicekit.testing import refused

from .conftest import Api

REST = [("x-envoy-original-path", "/api/v1/templates")]
GOOD = "name: greet\nsteps:\n  - {id: hello, call: {handler: greet}}\n"
FAULTY = "name: greet\nsteps:\n  - {id: hello, call: {handler: greet}, retry: 7}\n  - {id: hello, set: {a: 1}}\n"


async def create(api: Api, source: str) -> Any:
    return await api.templates.CreateTemplate(pb.CreateTemplateRequest(source=source), metadata=api.ann)


def violations(refusal: Any) -> list[tuple[str, str]]:
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    return [(v.field, v.description) for v in refusal.details["BadRequest"].field_violations]


async def test_a_template_goes_from_draft_to_deprecated(api: Api) -> None:
    call = api.templates.CreateTemplate(pb.CreateTemplateRequest(source=GOOD), metadata=[*api.ann, *REST])
    made = await call
    assert ("x-http-status", "201") in tuple(await call.initial_metadata())
    assert (made.name, made.status, made.latest_version, made.source, list(made.faults)) == (
        "greet", "draft", 0, GOOD, [],
    )  # fmt: skip
    one = {"id": made.id}

    version = await api.templates.PublishTemplate(pb.PublishTemplateRequest(**one), metadata=api.ann)
    assert (version.version, version.name, version.source) == (1, "greet", "")
    assert version.published_by == str(api.principal_id)
    assert api.engine.asked == [("template_changed", uuid.UUID(made.id))]

    changed = GOOD.replace("hello", "hi")
    updated = await api.templates.UpdateTemplate(pb.UpdateTemplateRequest(**one, source=changed), metadata=api.ann)
    assert (updated.status, updated.latest_version, updated.source) == ("published", 1, changed)
    await api.templates.PublishTemplate(pb.PublishTemplateRequest(**one), metadata=api.ann)

    versions = await api.templates.ListTemplateVersions(pb.ListTemplateVersionsRequest(**one), metadata=api.ann)
    assert [(v.version, v.source) for v in versions.versions] == [(2, ""), (1, "")]
    assert (versions.total, versions.limit, versions.offset) == (2, 50, 0)
    first = await api.templates.GetTemplateVersion(pb.GetTemplateVersionRequest(**one, version=1), metadata=api.ann)
    assert first.source == GOOD

    gone = await api.templates.DeprecateTemplate(pb.DeprecateTemplateRequest(**one), metadata=api.ann)
    assert (gone.status, gone.HasField("deprecated_at")) == ("deprecated", True)
    assert len(api.engine.asked) == 3
    got = await api.templates.GetTemplate(pb.GetTemplateRequest(**one), metadata=api.ann)
    assert got == gone


async def test_a_faulty_draft_is_kept_and_not_published(api: Api) -> None:
    made = await create(api, FAULTY)
    assert [fault.path for fault in made.faults] == ["steps[0].retry", "steps[1].id"]
    refusal = await refused(
        api.templates.PublishTemplate(pb.PublishTemplateRequest(id=made.id), metadata=[*api.ann, *REST])
    )
    assert refusal.info.reason == "TEMPLATE_FAULTS"
    found = violations(refusal)
    assert [field for field, _ in found] == ["steps[0].retry", "steps[1].id"]
    for (_, description), fault in zip(found, made.faults, strict=True):
        assert description == (f"line {fault.line}, column {fault.column}: {fault.reason.rstrip('.')}; {fault.mend}")
    assert api.engine.asked == []
    versions = await api.templates.ListTemplateVersions(pb.ListTemplateVersionsRequest(id=made.id), metadata=api.ann)
    assert versions.total == 0


async def test_handlers_are_checked_when_executors_are_live(api: Api) -> None:
    async def paths() -> list[str]:
        answer = await api.templates.ValidateTemplate(pb.ValidateTemplateRequest(source=GOOD), metadata=api.ann)
        return [fault.path for fault in answer.faults]

    assert await paths() == []
    api.engine.known = frozenset({"other"})
    assert await paths() == ["steps[0].call.handler"]
    api.engine.known = frozenset({"greet"})
    assert await paths() == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("name: 'my-draft' # so far\nsteps: [", "my-draft"),
        ('name: a\nname: b\nsteps: []', "a"),
        ('{"name": "json-one"}', "json-one"),
    ],
)  # fmt: skip
async def test_a_draft_that_is_being_written_is_kept(api: Api, source: str, name: str) -> None:
    made = await create(api, source)
    assert (made.name, made.source, bool(made.faults)) == (name, source, True)


@pytest.mark.parametrize(
    "source", ["steps: []", "name: A B\nsteps: []", "name: [", "- 1", "name: 7", "x", "name: " + "n" * 101]
)
async def test_a_source_without_a_valid_name_is_refused(api: Api, source: str) -> None:
    made = await create(api, GOOD)
    for call in (
        api.templates.CreateTemplate(pb.CreateTemplateRequest(source=source), metadata=api.ann),
        api.templates.UpdateTemplate(pb.UpdateTemplateRequest(id=made.id, source=source), metadata=api.ann),
    ):
        refusal = await refused(call)
        assert "name" in [field for field, _ in violations(refusal)]
    assert (await api.templates.GetTemplate(pb.GetTemplateRequest(id=made.id), metadata=api.ann)).source == GOOD


@pytest.mark.parametrize("source", ["", " \n", "name: a\0", GOOD + "# " + "é" * (128 << 10)])
async def test_a_source_has_bounds(api: Api, source: str) -> None:
    for refusal in (
        await refused(api.templates.CreateTemplate(pb.CreateTemplateRequest(source=source), metadata=api.ann)),
        await refused(api.templates.ValidateTemplate(pb.ValidateTemplateRequest(source=source), metadata=api.ann)),
    ):
        assert [field for field, _ in violations(refusal)] == ["source"]
    refusal = await refused(
        api.templates.UpdateTemplate(pb.UpdateTemplateRequest(id="x", source=source), metadata=api.ann)
    )
    assert [field for field, _ in violations(refusal)] == ["id", "source"]


async def test_a_name_is_taken_once(api: Api) -> None:
    made = await create(api, GOOD)
    refusal = await refused(create(api, GOOD))
    assert (refusal.code, refusal.info.metadata["template_id"]) == (grpc.StatusCode.ALREADY_EXISTS, made.id)


async def test_another_owners_template_is_a_missing_one(api: Api) -> None:
    made = await create(api, GOOD)
    await api.templates.PublishTemplate(pb.PublishTemplateRequest(id=made.id), metadata=api.ann)
    asked = len(api.engine.asked)

    async def ask(template_id: str) -> list[tuple[Any, bytes]]:
        t, one, rival = api.templates, {"id": template_id}, api.rival
        calls = [
            t.GetTemplate(pb.GetTemplateRequest(**one), metadata=rival),
            t.UpdateTemplate(pb.UpdateTemplateRequest(**one, source=GOOD), metadata=rival),
            t.PublishTemplate(pb.PublishTemplateRequest(**one), metadata=rival),
            t.DeprecateTemplate(pb.DeprecateTemplateRequest(**one), metadata=rival),
            t.ListTemplateVersions(pb.ListTemplateVersionsRequest(**one), metadata=rival),
            t.GetTemplateVersion(pb.GetTemplateVersionRequest(**one, version=1), metadata=rival),
        ]
        refusals = [await refused(call) for call in calls]
        return [(r.code, r.trailers["grpc-status-details-bin"].replace(template_id.encode(), b"?")) for r in refusals]

    assert await ask(made.id) == await ask(str(uuid.uuid4()))
    assert len(api.engine.asked) == asked
    listed = await api.templates.ListTemplates(pb.ListTemplatesRequest(), metadata=api.rival)
    assert (list(listed.templates), listed.total) == ([], 0)


async def test_templates_are_listed_in_pages(api: Api) -> None:
    for name in "abc":
        await create(api, GOOD.replace("greet", name, 1))

    async def names(**given: Any) -> tuple[list[str], int, int, int]:
        answer = await api.templates.ListTemplates(pb.ListTemplatesRequest(**given), metadata=api.ann)
        assert not any(t.source for t in answer.templates)
        return [t.name for t in answer.templates], answer.total, answer.limit, answer.offset

    assert await names() == (["c", "b", "a"], 3, 50, 0)
    assert await names(limit=1, offset=1) == (["b"], 3, 1, 1)
    assert await names(limit=500, offset=3) == ([], 3, 200, 3)
    assert await names(name="b") == (["b"], 1, 50, 0)
    bad = pb.ListTemplatesRequest(name="\0", limit=-1, offset=-1)
    refusal = await refused(api.templates.ListTemplates(bad, metadata=api.ann))
    assert {field for field, _ in violations(refusal)} == {"name", "limit", "offset"}
    versions = pb.ListTemplateVersionsRequest(id="x", limit=-1, offset=-1)
    refusal = await refused(api.templates.ListTemplateVersions(versions, metadata=api.ann))
    assert {field for field, _ in violations(refusal)} == {"id", "limit", "offset"}
    version = pb.GetTemplateVersionRequest(id="x", version=0)
    refusal = await refused(api.templates.GetTemplateVersion(version, metadata=api.ann))
    assert {field for field, _ in violations(refusal)} == {"id", "version"}


async def test_a_published_version_stands_when_nobody_can_be_told(api: Api) -> None:
    made = await create(api, GOOD)
    api.engine.failure = ConnectionError("the bus is down")
    version = await api.templates.PublishTemplate(pb.PublishTemplateRequest(id=made.id), metadata=api.ann)
    assert version.version == 1


async def test_readiness_needs_no_key_and_names_every_part(api: Api) -> None:
    answer = await api.system.GetReadiness(system_pb.GetReadinessRequest())
    assert (answer.status, dict(answer.parts)) == ("ready", {"store": "ok", "bus": "ok"})
    api.engine.parts = {"store": "ok", "bus": "down", "executors": "none is live"}
    refusal = await refused(api.system.GetReadiness(system_pb.GetReadinessRequest()))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_READY")
    assert dict(refusal.info.metadata) == api.engine.parts
    assert refusal.message == "not ready: bus: down; executors: none is live"
