"""Gates: decided or expired here, opened and withdrawn by the scheduler's transactions.

A decision is one transaction that locks the run's row first and then the gate's, the scheduler's order, and
raises the run's version: a scheduler that is just withdrawing the gate loses or wins, never both.

Every statement for a caller names the owner: another owner's gate is a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnClause, Select, bindparam, func, literal_column, null, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text
from wfe_engine.errors import NotFound, PermissionDenied, StateConflict, WfeError

from wfe_store import schema
from wfe_store.gate_policy import DECIDER_ROLES, Decider, Policy
from wfe_store.paging import Page, compiled, fetch_page
from wfe_store.pool import Connection, Database, fetch_all, fetch_one

STATUSES = ("open", "approved", "rejected", "expired", "withdrawn", "superseded")
#: Characters of a body that lists show.
BODY_IN_LISTS = 1_000
#: What a decision makes of the gate.
_CLOSED_AS = {"approve": "approved", "reject": "rejected"}


@dataclass(frozen=True, slots=True)
class Gate:
    """A question of a run to people, and what became of it.

    Attributes:
        id: Of the gate.
        run_id: Run that waits.
        no: Number of the step that waits.
        path, iteration: The step's.
        status: One of STATUSES.
        title: The question.
        body: More about it, Markdown; may be empty.
        payload: JSON text of what is to be approved; None without.
        policy: Who may decide.
        digest: SHA-256 over what the decision is about, hex.
        started_by: Principal behind the run.
        replaces: The gate it follows after a retry or rollback; None for the first.
        created_at: When it opened.
        expires_at: When the default decision is taken; None without a deadline. Stands still while held.
        on_expiry: The default decision: reject, approve or fail.
        held_at: Since when the run is paused; None while it is not.
        decided_at: When it closed; None while open.
        decided_by: Principal that decided; None while open or when nobody did.
        outcome: What the run is told: approve, reject or fail; None while open, or withdrawn or superseded.
        comment: What the decider said.
        overdue: Open, past its deadline, and not yet closed by the expiry loop; cannot be decided any more.
    """

    id: UUID
    run_id: UUID
    no: int
    path: str
    iteration: str
    status: str
    title: str
    body: str
    payload: str | None
    policy: Policy
    digest: str
    started_by: UUID
    replaces: UUID | None
    created_at: datetime
    expires_at: datetime | None
    on_expiry: str
    held_at: datetime | None
    decided_at: datetime | None
    decided_by: UUID | None
    outcome: str | None
    comment: str
    overdue: bool

    def refusal(self, decider: Decider) -> WfeError | None:
        """Why that decider may not decide it now.

        None when he may. Who he is comes before what state it is in.
        """
        if not self.policy.admits(decider):
            return PermissionDenied(
                "you are not among the approvers of this gate", reason="NOT_AN_APPROVER", gate_id=self.id
            )
        if self.policy.exclude_starter and decider.principal_id == self.started_by:
            return PermissionDenied(
                "you started the run, so somebody else must decide", reason="SELF_APPROVAL", gate_id=self.id
            )
        if self.status != "open" or self.overdue:
            return self._closed()
        return None

    def _closed(self) -> StateConflict:
        status = "expired" if self.overdue else self.status
        return StateConflict(
            f"the gate is closed: {status}",
            reason="GATE_CLOSED",
            gate_id=self.id,
            status=status,
            decision=self.outcome or "",
            decided_by=self.decided_by or "",
            decided_at=self.decided_at.isoformat() if self.decided_at else "",
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision the run's scheduler has to be told of.

    Attributes:
        run_id: The run.
        gate_id: The gate.
        version: Version of the run with the decision.
    """

    run_id: UUID
    gate_id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Decided:
    """Answer to a decision: the closed gate, and what to tell; None when it had been decided so before."""

    gate: Gate
    decision: Decision | None


_OVERDUE: ColumnClause[bool] = literal_column(
    "(status = 'open' AND expires_at <= coalesce(held_at, clock_timestamp())) IS TRUE"
)
_COLUMNS = [column for column in schema.gates.c if column.name not in ("owner_id", "told_at")]
_GATES = select(*_COLUMNS, _OVERDUE)
# Payloads and bodies are as large as people make them: a page of them would not fit a message.
_SHORT = {"payload": null(), "body": func.left(schema.gates.c.body, BODY_IN_LISTS)}
_LISTED = select(*(_SHORT.get(column.name, column) for column in _COLUMNS), _OVERDUE)
# What is no JSON for jsonb (an escaped NUL) must not break the list for everybody; it matches nobody.
_POLICY = """CASE WHEN strpos(policy, '\\u0000') = 0 THEN policy::jsonb ELSE '{"users": [""]}'::jsonb END"""
_EXCLUDES_STARTER = f"coalesce(({_POLICY}) -> 'exclude_starter', 'true'::jsonb) <> 'false'::jsonb"
# The rules of Policy.admits, for a decider with one of DECIDER_ROLES.
_MINE = f"""status = 'open' AND coalesce(expires_at > coalesce(held_at, clock_timestamp()), true)
    AND (({_POLICY}) -> 'users' ? :me OR (:kind <> 'service' AND (
        (coalesce(({_POLICY}) -> 'users', '[]') IN ('[]', 'null')
            AND coalesce(({_POLICY}) -> 'groups', '[]') IN ('[]', 'null')
            AND coalesce(({_POLICY}) -> 'roles', '[]') IN ('[]', 'null'))
        OR ({_POLICY}) -> 'groups' ?| :groups OR ({_POLICY}) -> 'roles' ?| :roles)))
    AND (started_by <> :principal OR NOT ({_EXCLUDES_STARTER}))"""

_DECIDE = f"""UPDATE gates SET status = %(status)s, outcome = %(outcome)s, decided_by = %(decider)s,
        comment = %(comment)s, decided_at = clock_timestamp()
    WHERE id = %(gate)s AND run_id = %(run)s AND owner_id = %(owner)s AND status = 'open'
        AND coalesce(expires_at > coalesce(held_at, clock_timestamp()), true)
        AND (started_by <> %(decider)s OR NOT ({_EXCLUDES_STARTER}))"""  # noqa: S608 - no input in it

# Not clock_timestamp(): it may differ from row to row, so no index is searched by it.
_DUE = "status = 'open' AND expires_at <= statement_timestamp() AND held_at IS NULL"


class _NotDecided(Exception):
    """The gate was not there to be decided; rolls the transaction back."""


class Gates:
    """The gates of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def decide(
        self,
        owner_id: UUID,
        run_id: UUID,
        gate_id: UUID,
        *,
        decider: Decider,
        outcome: str,
        comment: str = "",
        expected_digest: str = "",
    ) -> Decided:
        """Close a gate if it is open, and raise its run's version. Locks the run's row, then the gate's.

        The same decision by the same decider again gives the gate as it was decided.

        Args:
            outcome: approve or reject.
            expected_digest: Digest the decider saw; not looked at when empty.

        Raises:
            NotFound: The owner's run has no such gate.
            PermissionDenied: NOT_AN_APPROVER or SELF_APPROVAL.
            StateConflict: GATE_CLOSED, with the decision that was taken; or STALE_PAYLOAD.
        """
        status = _CLOSED_AS[outcome]
        gate = await self.get(owner_id, gate_id, run_id=run_id)
        if _is_repeat(gate, decider, status):
            return Decided(gate, None)
        if (refusal := gate.refusal(decider)) is not None:
            raise refusal
        if expected_digest and expected_digest != gate.digest:
            raise StateConflict(
                "the gate is not the one you saw; look at it again",
                reason="STALE_PAYLOAD",
                gate_id=gate_id,
                digest=gate.digest,
            )

        async def work(connection: Connection) -> Decided:
            run = await fetch_one(
                connection,
                "UPDATE runs SET version = version + 1 WHERE id = %s AND owner_id = %s RETURNING version",
                (run_id, owner_id),
            )
            values = {
                "status": status, "outcome": outcome, "decider": decider.principal_id, "comment": comment,
                "gate": gate_id, "run": run_id, "owner": owner_id,
            }  # fmt: skip
            if run is None or (await connection.execute(_DECIDE, values)).rowcount != 1:
                raise _NotDecided
            closed = await self._get(connection, owner_id, gate_id, run_id)
            return Decided(closed, Decision(run_id, gate_id, run[0]))

        try:
            return await self._database.transaction(work)
        except _NotDecided:
            gate = await self.get(owner_id, gate_id, run_id=run_id)
        if _is_repeat(gate, decider, status):
            return Decided(gate, None)
        raise gate.refusal(decider) or NotFound(f"there is no gate {gate_id}", gate_id=gate_id)

    async def get(self, owner_id: UUID, gate_id: UUID, *, run_id: UUID | None = None) -> Gate:
        """One gate; of that run when one is given.

        Raises:
            NotFound: The owner, or his run, has no such gate.
        """
        async with self._database.connection() as connection:
            return await self._get(connection, owner_id, gate_id, run_id)

    async def _get(self, connection: Connection, owner_id: UUID, gate_id: UUID, run_id: UUID | None = None) -> Gate:
        statement = _GATES.where(schema.gates.c.owner_id == owner_id, schema.gates.c.id == gate_id)
        if run_id is not None:
            statement = statement.where(schema.gates.c.run_id == run_id)
        row = await fetch_one(connection, *compiled(statement))
        if row is None:
            raise NotFound(f"there is no gate {gate_id}", gate_id=gate_id)
        return _gate(*row)

    async def of_run(self, owner_id: UUID, run_id: UUID) -> Sequence[Gate]:
        """The gates of a run, open and closed, oldest first; at most 1,000."""
        g = schema.gates.c
        statement = _GATES.where(g.owner_id == owner_id, g.run_id == run_id).order_by(g.created_at, g.id)
        async with self._database.connection() as connection:
            return [_gate(*row) for row in await fetch_all(connection, *compiled(statement.limit(1000)))]

    async def list(
        self,
        owner_id: UUID,
        *,
        status: str | None = None,
        run_id: UUID | None = None,
        mine: Decider | None = None,
        limit: int,
        offset: int,
    ) -> Page[Gate]:
        """The owner's gates, oldest first, without payloads and with bodies cut to BODY_IN_LISTS characters.

        Args:
            status: One of STATUSES; None for all.
            run_id: Only gates of this run.
            mine: Only gates this one may decide now.
        """
        g = schema.gates.c
        statement: Select[Any] = _LISTED.where(g.owner_id == owner_id)
        if status is not None:
            statement = statement.where(g.status == status)
        if run_id is not None:
            statement = statement.where(g.run_id == run_id)
        if mine is not None:
            if not mine.roles & DECIDER_ROLES:
                return Page((), 0)
            statement = statement.where(
                text(_MINE).bindparams(
                    bindparam("groups", sorted(mine.groups), ARRAY(Text)),
                    bindparam("roles", sorted(mine.roles), ARRAY(Text)),
                    me=mine.name,
                    kind=mine.kind,
                    principal=mine.principal_id,
                )
            )
        statement = statement.order_by(g.created_at, g.id)
        async with self._database.connection() as connection:
            return await fetch_page(connection, statement, _gate, limit=limit, offset=offset)

    async def expire_due(self, *, limit: int = 100) -> Sequence[Decision]:
        """Close open gates past their deadline with their default decision, at most `limit`.

        Locks the runs' rows, then the gates'. Runs somebody else has locked are left for the next time:
        whoever holds them may be deciding the gate. Gates of paused runs stand still.
        """

        async def work(connection: Connection) -> Sequence[Decision]:
            due = await fetch_all(
                connection,
                f"SELECT run_id, id FROM gates WHERE {_DUE} ORDER BY expires_at LIMIT %s",  # noqa: S608
                (limit,),
            )
            if not due:
                return ()
            locked = await fetch_all(
                connection,
                "SELECT id FROM runs WHERE id = ANY(%s) ORDER BY id FOR UPDATE SKIP LOCKED",
                (list({run_id for run_id, _ in due}),),
            )
            expired = await fetch_all(
                connection,
                "UPDATE gates SET status = 'expired', outcome = on_expiry, decided_at = clock_timestamp()"  # noqa: S608
                f" WHERE id = ANY(%s) AND run_id = ANY(%s) AND {_DUE} RETURNING run_id, id",
                ([gate_id for _, gate_id in due], [run_id for (run_id,) in locked]),
            )
            raised = await fetch_all(
                connection,
                "UPDATE runs SET version = version + 1 WHERE id = ANY(%s) RETURNING id, version",
                (list({run_id for run_id, _ in expired}),),
            )
            versions: dict[UUID, int] = dict(raised)
            return [Decision(run_id, gate_id, versions[run_id]) for run_id, gate_id in expired]

        return await self._database.transaction(work)

    async def untold(self, *, older_than: timedelta = timedelta(seconds=1), limit: int = 500) -> Sequence[Decision]:
        """Decisions no scheduler has taken in for that long, oldest first.

        Each with its run's present version.
        """
        async with self._database.connection() as connection:
            rows = await fetch_all(
                connection,
                "SELECT g.run_id, g.id, r.version FROM gates g JOIN runs r ON r.id = g.run_id"
                " WHERE g.told_at IS NULL AND g.outcome IS NOT NULL AND g.decided_at < clock_timestamp() - %s"
                " ORDER BY g.decided_at LIMIT %s",
                (older_than, limit),
            )
        return [Decision(*row) for row in rows]


def _is_repeat(gate: Gate, decider: Decider, status: str) -> bool:
    return gate.status == status and gate.decided_by == decider.principal_id


def _gate(*row: object) -> Gate:
    columns = list(row)
    columns[_POLICY_AT] = Policy.parse(str(columns[_POLICY_AT]))
    return Gate(*columns)  # type: ignore[arg-type]


_POLICY_AT = list(Gate.__dataclass_fields__).index("policy")
