"""Published templates, compiled once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from uuid import UUID

import msgspec
import wfe_language
from wfe_engine.errors import StateConflict
from wfe_engine.plan import WORK, Block, Plan
from wfe_store.templates import Resolved, Templates

#: Seconds a scheduler may go on starting runs of a version that is no longer the newest, when the message that
#: told of the change was lost.
FRESH_SECONDS = 1.0
#: Compiled plans kept.
PLANS = 1000


class Published(msgspec.Struct, frozen=True):
    """A published version, compiled.

    Attributes:
        queues: Of all steps an executor runs.
        secrets: Names of the secrets it refers to.
    """

    template: UUID
    name: str
    version: int
    plan: Plan
    queues: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()


def queues_of(block: Block) -> frozenset[str]:
    """Queues of a block's steps, and of those inside of them."""
    own = {node.queue for node in block.nodes if node.kind in WORK}
    own |= {node.compensate.queue for node in block.nodes if node.compensate is not None}
    return frozenset(own.union(*(queues_of(inner) for node in block.nodes for inner in node.blocks)))


class Plans:
    """Plans by template version; versions never change, so a plan is good for ever."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._plans: OrderedDict[tuple[UUID, int], Published] = OrderedDict()
        self._newest: dict[tuple[UUID, UUID], tuple[Resolved, float]] = {}

    async def resolve(self, owner: UUID, template: UUID, version: int | None) -> Published:
        """The version a start takes: the one named, or the newest.

        Raises:
            NotFound: The owner has no such template or version.
            StateConflict: It was never published, or is deprecated.
        """
        key = (owner, template)
        known = self._newest.get(key)
        if version is None and known is not None and known[1] > time.monotonic():
            resolved = known[0]
        else:
            resolved = await self._templates.resolve(owner, template, version)
            if version is None:
                if len(self._newest) > 10 * PLANS:
                    self._newest.clear()
                self._newest[key] = (resolved, time.monotonic() + FRESH_SECONDS)
        if resolved.deprecated:
            raise StateConflict(
                f"template {resolved.name} is deprecated and starts no new runs",
                reason="TEMPLATE_DEPRECATED",
                template=resolved.name,
            )
        return self._published(resolved) or await self._compile(resolved)

    async def of_run(self, owner: UUID, template: UUID, version: int) -> Published:
        """The version a run is pinned to, deprecated or not."""
        known = self._plans.get((template, version))
        if known is not None:
            return known
        return await self._compile(await self._templates.resolve(owner, template, version))

    def known(self, template: UUID, version: int) -> Published | None:
        """The compiled version, if it is at hand."""
        return self._plans.get((template, version))

    def changed(self, template: UUID) -> None:
        """A template was published or deprecated: ask the store next time."""
        for key in [key for key in self._newest if key[1] == template]:
            del self._newest[key]

    def _published(self, resolved: Resolved) -> Published | None:
        return self._plans.get((resolved.template_id, resolved.version))

    async def _compile(self, resolved: Resolved) -> Published:
        # Compiling a large template takes tens of milliseconds; the loop has other things to do.
        plan = await asyncio.to_thread(wfe_language.compile, resolved.source, resolved.pins)
        published = Published(
            resolved.template_id,
            resolved.name,
            resolved.version,
            plan,
            queues_of(plan.root),
            wfe_language.secrets_of(plan),
        )
        self._plans[(resolved.template_id, resolved.version)] = published
        while len(self._plans) > PLANS:
            self._plans.popitem(last=False)
        return published
