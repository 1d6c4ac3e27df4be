"""TemplateService: drafts, validation, publication."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Sequence
from typing import Any

import structlog
import wfe_language
from wfe.api.v1 import template_pb2, template_service_pb2, template_service_pb2_grpc
from wfe_engine.errors import InvalidInput, Violation
from wfe_language import Change, Fault, TemplateFaults, child_templates, compare, load, validate
from wfe_language.compiler.kinds import TEMPLATE_NAME
from wfe_servicekit.calls import current_caller, http_status
from wfe_servicekit.checks import Violations, plain_text
from wfe_store.templates import Resolved, Template, Templates

from wfe_scheduler.api import mapping, requests
from wfe_scheduler.api.engine import Engine

_log = structlog.get_logger("wfe.templates")

#: Bytes of UTF-8 a source may have.
MOST_SOURCE_BYTES = 256 << 10
LONGEST_NAME = 100

# The name of a source that cannot be read as a whole: drafts are kept while they are being written.
_NAME_LINE = re.compile(r"""^name:[ \t]*(["']?)([^\s"'#]+)\1[ \t]*(?:#.*)?$""", re.MULTILINE)


class TemplateService(template_service_pb2_grpc.TemplateServiceServicer):  # type: ignore[misc]
    """Checks requests, validates sources, asks the store, maps answers; scoped to the caller's owner."""

    def __init__(self, engine: Engine, templates: Templates) -> None:
        self._engine = engine
        self._templates = templates
        # One validation at a time: it is work for the processor, which the rest of the process needs too.
        self._validating = asyncio.Semaphore(1)

    async def CreateTemplate(
        self, request: template_service_pb2.CreateTemplateRequest, context: Any
    ) -> template_pb2.Template:
        """Keep a draft; 201, with its faults.

        Raises:
            InvalidInput: It is too large, or has no valid name.
            AlreadyExists: The owner has a template of that name.
        """
        violations = Violations()
        _check_source(violations, request.source)
        violations.raise_if_any()
        faults = await self._faults(request.source)
        name = await asyncio.to_thread(_name, request.source, faults)
        made = await self._templates.create(current_caller().owner_id, name=name, source=request.source)
        http_status(201)
        return mapping.template(made, faults)

    async def UpdateTemplate(
        self, request: template_service_pb2.UpdateTemplateRequest, context: Any
    ) -> template_pb2.Template:
        """Replace a draft.

        Raises:
            InvalidInput: It is too large, or has no valid name.
            NotFound: The owner has no such template.
            AlreadyExists: The owner has another template of that name.
        """
        violations = Violations()
        template_id = requests.uuid(violations, request.id, "id")
        _check_source(violations, request.source)
        violations.raise_if_any()
        faults = await self._faults(request.source)
        name = await asyncio.to_thread(_name, request.source, faults)
        made = await self._templates.replace_draft(
            current_caller().owner_id, template_id, name=name, source=request.source
        )
        return mapping.template(made, faults)

    async def ValidateTemplate(
        self, request: template_service_pb2.ValidateTemplateRequest, context: Any
    ) -> template_service_pb2.ValidateTemplateResponse:
        """All faults of a source, without keeping it."""
        violations = Violations()
        _check_source(violations, request.source)
        violations.raise_if_any()
        faults = await self._faults(request.source)
        return template_service_pb2.ValidateTemplateResponse(faults=[mapping.template_fault(fault) for fault in faults])

    async def PublishTemplate(
        self, request: template_service_pb2.PublishTemplateRequest, context: Any
    ) -> template_pb2.TemplateVersion:
        """Make the draft the next version, and tell every scheduler.

        Raises:
            InvalidInput: TEMPLATE_FAULTS, with every fault of the draft.
            NotFound: The owner has no such template.
            StateConflict: The draft was replaced meanwhile.
        """
        violations = Violations()
        template_id = requests.uuid(violations, request.id, "id")
        violations.raise_if_any()
        caller = current_caller()
        found = await self._templates.get(caller.owner_id, template_id)
        faults = await self._faults(found.draft)
        if faults:
            raise _refusal(faults)
        pins = await self._children(found.draft)
        made = await self._templates.publish(
            caller.owner_id, template_id, source=found.draft, published_by=caller.principal_id, pins=pins
        )
        await self._tell(found)
        return mapping.template_version(made)

    async def ListTemplates(
        self, request: template_service_pb2.ListTemplatesRequest, context: Any
    ) -> template_service_pb2.ListTemplatesResponse:
        """The owner's templates, newest first, without sources."""
        violations = Violations()
        with violations.collect():
            plain_text(request.name, "name", longest=LONGEST_NAME)
        limit, offset = requests.page_of(violations, request)
        violations.raise_if_any()
        found = await self._templates.list(current_caller().owner_id, name=request.name, limit=limit, offset=offset)
        return template_service_pb2.ListTemplatesResponse(
            templates=[mapping.template(item) for item in found.items],
            total=found.total,
            limit=limit,
            offset=offset,
        )

    async def GetTemplate(
        self, request: template_service_pb2.GetTemplateRequest, context: Any
    ) -> template_pb2.Template:
        """One template with its draft and the draft's faults."""
        violations = Violations()
        template_id = requests.uuid(violations, request.id, "id")
        violations.raise_if_any()
        found = await self._templates.get(current_caller().owner_id, template_id)
        return mapping.template(found, await self._faults(found.draft))

    async def ListTemplateVersions(
        self, request: template_service_pb2.ListTemplateVersionsRequest, context: Any
    ) -> template_service_pb2.ListTemplateVersionsResponse:
        """Versions of a template, newest first, without sources."""
        violations = Violations()
        template_id = requests.uuid(violations, request.id, "id")
        limit, offset = requests.page_of(violations, request)
        violations.raise_if_any()
        found = await self._templates.versions(current_caller().owner_id, template_id, limit=limit, offset=offset)
        return template_service_pb2.ListTemplateVersionsResponse(
            versions=[mapping.template_version(item) for item in found.items],
            total=found.total,
            limit=limit,
            offset=offset,
        )

    async def GetTemplateVersion(
        self, request: template_service_pb2.GetTemplateVersionRequest, context: Any
    ) -> template_pb2.TemplateVersion:
        """One version with its source as it was written."""
        violations = Violations()
        template_id = requests.uuid(violations, request.id, "id")
        version = requests.at_least(violations, request.version, "version", 1)
        violations.raise_if_any()
        found = await self._templates.get_version(current_caller().owner_id, template_id, version)
        return mapping.template_version(found, with_source=True)

    async def CompareTemplateVersions(
        self, request: template_service_pb2.CompareTemplateVersionsRequest, context: Any
    ) -> template_service_pb2.CompareTemplateVersionsResponse:
        """What changed in a version since another one; the one before it when none is named."""
        violations = Violations()
        template_id = requests.uuid(violations, request.id, "id")
        version = requests.at_least(violations, request.version, "version", 1)
        since = requests.at_least(violations, request.since, "since", 0) or version - 1
        if version == 1 and not since:
            violations.add("since", "there is no version before 1: name another one")
        violations.raise_if_any()
        owner_id = current_caller().owner_id
        old, new = [await self._templates.resolve(owner_id, template_id, number) for number in (since, version)]
        async with self._validating:
            changes = await asyncio.to_thread(_changes, old, new)
        return template_service_pb2.CompareTemplateVersionsResponse(
            version=version,
            since=since,
            breaking=any(change.breaking for change in changes),
            changes=[mapping.template_change(change) for change in changes],
        )

    async def DeprecateTemplate(
        self, request: template_service_pb2.DeprecateTemplateRequest, context: Any
    ) -> template_pb2.Template:
        """Start no more runs of it, and tell every scheduler."""
        violations = Violations()
        template_id = requests.uuid(violations, request.id, "id")
        violations.raise_if_any()
        made = await self._templates.deprecate(current_caller().owner_id, template_id)
        await self._tell(made)
        return mapping.template(made, await self._faults(made.draft))

    async def _faults(self, source: str) -> Sequence[Fault]:
        """Everything wrong with a source, by the handlers that live executors know and what is published now."""
        handlers = await self._engine.handlers()
        templates = await self._children(source)
        async with self._validating:
            return await asyncio.to_thread(_validated, source, handlers, tuple(sorted(templates.items())))

    async def _children(self, source: str) -> dict[str, tuple[str, int]]:
        """The published templates a source would run as children, by name: id and newest version."""
        if "workflow" not in source:
            return {}
        names = await asyncio.to_thread(child_templates, source)
        return await self._templates.newest(current_caller().owner_id, names) if names else {}

    async def _tell(self, changed: Template) -> None:
        try:
            await self._engine.template_changed(changed.id)
        except Exception as error:  # noqa: BLE001 - what was asked is done and stored; the others find it later
            _log.warning("template_change_untold", template_id=str(changed.id), error=str(error))


def _changes(old: Resolved, new: Resolved) -> list[Change]:
    return compare(wfe_language.compile(old.source, old.pins), wfe_language.compile(new.source, new.pins))


@functools.lru_cache(maxsize=64)
def _validated(
    source: str, handlers: frozenset[str] | None, templates: tuple[tuple[str, tuple[str, int]], ...]
) -> tuple[Fault, ...]:
    return tuple(validate(source, handlers=handlers, templates=dict(templates)))


def _check_source(violations: Violations, source: str) -> None:
    if not source.strip():
        violations.add("source", "is required: give the template as YAML or JSON text")
    elif len(source.encode()) > MOST_SOURCE_BYTES:
        violations.add("source", f"must be at most {MOST_SOURCE_BYTES} bytes, has {len(source.encode())}")
    elif "\0" in source:
        violations.add("source", "has a NUL character: leave it out")


def _name(source: str, faults: Sequence[Fault]) -> str:
    """The name a source gives its template.

    Raises:
        InvalidInput: It gives none that is valid; has every fault of the source.
    """
    try:
        document, _ = load(source)
        name = document.get("name") if isinstance(document, dict) else None
    except TemplateFaults:
        line = _NAME_LINE.search(source)
        name = None if line is None else line[2]
    if isinstance(name, str) and TEMPLATE_NAME.fullmatch(name):
        return name
    violations = [_violation(fault) for fault in faults]
    if not any(violation.field == "name" for violation in violations):
        violations.insert(0, Violation("name", "the source has no valid name: give it one, e.g. name: my-template"))
    raise InvalidInput(violations, reason="TEMPLATE_FAULTS")


def _refusal(faults: Sequence[Fault]) -> InvalidInput:
    return InvalidInput([_violation(fault) for fault in faults], reason="TEMPLATE_FAULTS")


def _violation(fault: Fault) -> Violation:
    place = f"line {fault.line}, column {fault.column}: " if fault.line else ""
    mend = f"; {fault.mend}" if fault.mend else ""
    return Violation(fault.path, f"{place}{fault.reason.rstrip('.') if mend else fault.reason}{mend}")
