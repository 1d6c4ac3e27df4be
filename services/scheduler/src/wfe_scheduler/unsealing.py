"""Answers executors that hold a lease: the sensitive values and secrets that its request stands on."""

from __future__ import annotations

from uuid import UUID

import msgspec
import structlog
from wfe_bus import messages as m
from wfe_engine.errors import StateConflict
from wfe_engine.state import CALLBACK
from wfe_store.load import load_sealed, load_sealed_values
from wfe_store.pool import Database
from wfe_store.sealing import Unreadable
from wfe_store.secrets import load_secrets, present_secrets

from wfe_scheduler.callbacks import Callbacks
from wfe_scheduler.plans import Plans, Published
from wfe_scheduler.seal import Sealer, named_in

_log = structlog.get_logger("wfe.scheduler.unsealing")


class Unsealing:
    """Opens what a lease may see, and nothing else.

    A secret is given out only when the request refers to it and the run's template names it: what a run was given
    or a step gave back cannot ask for one.
    """

    def __init__(self, database: Database, plans: Plans, sealer: Sealer | None, callbacks: Callbacks | None) -> None:
        self._database = database
        self._plans = plans
        self._sealer = sealer
        self._callbacks = callbacks

    async def answer(self, lease: m.LeaseRef) -> m.Unsealed:
        """The values of a lease; stale when it is not held under its fence.

        Raises:
            Unavailable: The store is down.
        """
        run = UUID(bytes=lease.run)
        async with self._database.connection() as connection:
            found = await load_sealed(connection, run, lease.no, lease.fence)
        if found is None or self._sealer is None:
            return m.Unsealed(stale=True)
        values, unreadable = {}, []
        for name, stored in found.values.items():
            try:
                values[name] = self._sealer.unseal(run, name, stored)
            except Unreadable:
                unreadable.append(name)
        names = named_in(found.request, "secret")
        secrets: dict[str, bytes] = {}
        if names:
            published = await self._plans.of_run(found.owner, found.template, found.template_version)
            forged = names - published.secrets
            if forged:
                _log.error("a request names secrets its template does not", run=str(run), step=lease.no)
            async with self._database.connection() as connection:
                stored_secrets = await load_secrets(connection, found.owner, names - forged)
            for name, (version, stored) in stored_secrets.items():
                try:
                    secrets[name] = self._sealer.unseal_secret(found.owner, name, version, stored)
                except Unreadable:
                    unreadable.append(name)
        if unreadable:
            _log.error("values that no key opens", run=str(run), step=lease.no, names=unreadable)
        missing = tuple(sorted(names - secrets.keys() - set(unreadable)))
        return m.Unsealed(
            values=values,
            secrets=secrets,
            callbacks=self._urls(run, found.request),
            missing=missing,
            unreadable=tuple(sorted(unreadable)),
        )

    def _urls(self, run: UUID, request: bytes) -> dict[str, bytes]:
        if self._callbacks is None:
            return {}
        keys = named_in(request, "callback")
        return {key: msgspec.json.encode(self._callbacks.url(run, CALLBACK + key)) for key in keys}


async def check_secrets(database: Database, owner: UUID, published: Published) -> None:
    """Refuse the start of a run that would miss a secret, if all its steps are reached.

    Raises:
        StateConflict: SECRET_MISSING, naming all that are not there.
    """
    if not published.secrets:
        return
    async with database.connection() as connection:
        lacking = sorted(published.secrets - await present_secrets(connection, owner, published.secrets))
    if lacking:
        names = ", ".join(lacking)
        message = f"template {published.name} needs secrets that are not there: {names}"
        raise StateConflict(message, reason="SECRET_MISSING", secrets=names)


async def sealed_again(database: Database, sealer: Sealer | None, source: UUID, run: UUID) -> dict[str, bytes]:
    """Sensitive values of a run, sealed for a fork of it: what is sealed for one run opens in no other.

    Those that no key opens are left out; steps that need them say so.
    """
    if sealer is None:
        return {}
    async with database.connection() as connection:
        stored = await load_sealed_values(connection, source)
    again: dict[str, bytes] = {}
    for name, sealed in stored.items():
        try:
            again[name] = sealer.seal(run, name, sealer.unseal(source, name, sealed))
        except Unreadable:
            _log.error("a value that no key opens", run=str(source), name=name)
    return again
