"""Drafts change, versions never do, and other owners see neither."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from wfe_engine.errors import AlreadyExists, NotFound, StateConflict
from wfe_store.paging import TOTAL_CAP
from wfe_store.pool import Database
from wfe_store.templates import Templates

ME = uuid.uuid4()


@pytest.fixture
def templates(database: Database) -> Templates:
    return Templates(database)


async def test_a_draft_becomes_versions_that_keep_their_text(templates: Templates, owner_id: uuid.UUID) -> None:
    made = await templates.create(owner_id, name="publish", source="one: 'ä'\r\n")
    assert (made.status, made.latest_version, made.draft) == ("draft", 0, "one: 'ä'\r\n")
    first = await templates.publish(owner_id, made.id, source=made.draft, published_by=ME)
    changed = await templates.replace_draft(owner_id, made.id, name="publish-2", source="two")
    second = await templates.publish(owner_id, made.id, source="two", published_by=ME)
    assert (first.version, second.version, changed.status) == (1, 2, "published")
    assert (await templates.get_version(owner_id, made.id, 1)).source == "one: 'ä'\r\n"
    assert [
        (v.version, v.name, v.source) for v in (await templates.versions(owner_id, made.id, limit=9, offset=0)).items
    ] == [
        (2, "publish-2", ""),
        (1, "publish", ""),
    ]
    newest, named = await templates.resolve(owner_id, made.id), await templates.resolve(owner_id, made.id, 1)
    assert (newest.version, newest.name, newest.source) == (2, "publish-2", "two")
    assert (named.version, named.name, named.deprecated) == (1, "publish", False)


async def test_publishing_what_was_not_validated_is_refused(templates: Templates, owner_id: uuid.UUID) -> None:
    made = await templates.create(owner_id, name="publish", source="one")
    await templates.replace_draft(owner_id, made.id, name="publish", source="other")
    with pytest.raises(StateConflict) as raised:
        await templates.publish(owner_id, made.id, source="one", published_by=ME)
    assert raised.value.reason == "DRAFT_CHANGED"
    assert (await templates.get(owner_id, made.id)).latest_version == 0


async def test_publishing_at_once_makes_versions_without_gaps(templates: Templates, owner_id: uuid.UUID) -> None:
    made = await templates.create(owner_id, name="publish", source="one")
    done = await asyncio.gather(
        *(templates.publish(owner_id, made.id, source="one", published_by=ME) for _ in range(10))
    )
    assert sorted(version.version for version in done) == list(range(1, 11))


async def test_a_name_is_taken_within_an_owner_only(
    templates: Templates, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    made = await templates.create(owner_id, name="publish", source="one")
    await templates.create(other_owner_id, name="publish", source="one")
    with pytest.raises(AlreadyExists) as raised:
        await templates.create(owner_id, name="publish", source="two")
    assert raised.value.metadata == {"name": "publish", "template_id": str(made.id)}
    second = await templates.create(owner_id, name="second", source="two")
    with pytest.raises(AlreadyExists):
        await templates.replace_draft(owner_id, second.id, name="publish", source="two")


async def test_deprecated_resolves_as_such_and_publishing_revives(templates: Templates, owner_id: uuid.UUID) -> None:
    made = await templates.create(owner_id, name="publish", source="one")
    await templates.publish(owner_id, made.id, source="one", published_by=ME)
    first = await templates.deprecate(owner_id, made.id)
    assert first.status == "deprecated"
    assert await templates.deprecate(owner_id, made.id) == first
    assert (await templates.resolve(owner_id, made.id)).deprecated
    await templates.publish(owner_id, made.id, source="one", published_by=ME)
    assert not (await templates.resolve(owner_id, made.id)).deprecated


async def test_starting_what_was_never_published_says_so(templates: Templates, owner_id: uuid.UUID) -> None:
    made = await templates.create(owner_id, name="publish", source="one")
    with pytest.raises(StateConflict) as raised:
        await templates.resolve(owner_id, made.id)
    assert raised.value.reason == "TEMPLATE_NOT_PUBLISHED"
    with pytest.raises(NotFound):
        await templates.resolve(owner_id, made.id, 3)


async def test_another_owners_template_is_a_missing_one(
    templates: Templates, owner_id: uuid.UUID, other_owner_id: uuid.UUID
) -> None:
    made = await templates.create(owner_id, name="publish", source="one")
    await templates.publish(owner_id, made.id, source="one", published_by=ME)

    def calls(owner: uuid.UUID, template: uuid.UUID):
        return [
            templates.get(owner, template),
            templates.replace_draft(owner, template, name="x", source="x"),
            templates.publish(owner, template, source="one", published_by=ME),
            templates.deprecate(owner, template),
            templates.versions(owner, template, limit=9, offset=0),
            templates.get_version(owner, template, 1),
            templates.resolve(owner, template),
        ]

    missing = uuid.uuid4()
    for theirs, none in zip(calls(other_owner_id, made.id), calls(owner_id, missing), strict=True):
        with pytest.raises(NotFound) as hidden:
            await theirs
        with pytest.raises(NotFound) as absent:
            await none
        assert hidden.value.message.replace(str(made.id), "") == absent.value.message.replace(str(missing), "")
    assert (await templates.list(other_owner_id, limit=9, offset=0)).total == 0
    assert (await templates.get(owner_id, made.id)).draft == "one"


async def test_lists_are_newest_first_and_paged(templates: Templates, owner_id: uuid.UUID) -> None:
    for number in range(5):
        await templates.create(owner_id, name=f"t{number}", source="x")
    page = await templates.list(owner_id, limit=2, offset=1)
    assert ([t.name for t in page.items], page.total) == (["t3", "t2"], 5)
    assert all(t.draft == "" for t in page.items)
    past = await templates.list(owner_id, limit=2, offset=50)
    assert (past.items, past.total) == ((), 5)
    named = await templates.list(owner_id, name="t4", limit=50, offset=0)
    assert [t.name for t in named.items] == ["t4"]


async def test_totals_stay_at_the_cap(database: Database, templates: Templates, owner_id: uuid.UUID) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO templates (id, owner_id, name, draft)"
            " SELECT gen_random_uuid(), %s, 't' || n, '' FROM generate_series(1, %s) n",
            (owner_id, TOTAL_CAP + 50),
        )
    assert (await templates.list(owner_id, limit=1, offset=0)).total == TOTAL_CAP
