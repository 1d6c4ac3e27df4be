"""Decide several gates at once, each for itself."""

from __future__ import annotations

import asyncio
from uuid import UUID

from wfe.api.v1 import approval_service_pb2 as pb
from wfe_engine.errors import NotFound, StateConflict, WfeError
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import Violations, choice, parse_uuid, plain_text
from wfe_store.gates import Ballot, Decision, Gate, Gates

from wfe_approvals.approval_mapping import decider_of
from wfe_approvals.bus import Bus
from wfe_approvals.inputs import COMMENT_CHARACTERS, WORD_CHARACTERS
from wfe_approvals.usecases.decide_gate import form_check

MOST_ITEMS = 100
#: Decided at the same time.
AT_ONCE = 4


async def decide_gates(
    gates: Gates, bus: Bus, caller: Caller, request: pb.DecideApprovalsRequest
) -> pb.DecideApprovalsResponse:
    """Approve or reject up to 100 gates of one step and of no high risk, with one comment.

    Raises:
        InvalidInput: With everything wrong in the request; nothing was decided then.
    """
    faults = Violations()
    if not 1 <= len(request.items) <= MOST_ITEMS:
        faults.add("items", f"must be 1 to {MOST_ITEMS}")
    wanted: list[tuple[UUID, str]] = []
    for at, item in enumerate(request.items[:MOST_ITEMS]):
        with faults.collect():
            plain_text(item.digest, f"items[{at}].digest", longest=128, shortest=1)
        with faults.collect():
            wanted.append((parse_uuid(item.approval_id, f"items[{at}].approval_id"), item.digest))
    with faults.collect():
        choice(request.decision, "decision", ("approve", "reject"))
    with faults.collect():
        plain_text(request.comment, "comment", longest=COMMENT_CHARACTERS, line_breaks=True)
    with faults.collect():
        plain_text(request.reason_code, "reason_code", longest=WORD_CHARACTERS)
    faults.raise_if_any()
    batch = _Batch(gates, caller, request)
    results = await batch.decide(wanted)
    await bus.tell(batch.decisions)
    return pb.DecideApprovalsResponse(results=results)


class _Batch:
    def __init__(self, gates: Gates, caller: Caller, request: pb.DecideApprovalsRequest) -> None:
        self._gates = gates
        self._caller = caller
        self._request = request
        self._room = asyncio.Semaphore(AT_ONCE)
        self.decisions: list[Decision] = []

    async def decide(self, wanted: list[tuple[UUID, str]]) -> list[pb.BatchResult]:
        found = await self._gates.some(self._caller.owner_id, [gate_id for gate_id, _ in wanted])
        step = next((found[gate_id].path for gate_id, _ in wanted if gate_id in found), "")
        return list(await asyncio.gather(*(self._one(gate_id, digest, found, step) for gate_id, digest in wanted)))

    async def _one(self, gate_id: UUID, digest: str, found: dict[UUID, Gate], step: str) -> pb.BatchResult:
        try:
            gate = found.get(gate_id)
            if gate is None:
                raise NotFound(f"there is no gate {gate_id}", gate_id=gate_id)
            if gate.risk == "high":
                raise StateConflict("a gate of high risk is decided by itself", reason="HIGH_RISK", gate_id=gate_id)
            if gate.path != step:
                raise StateConflict(
                    "it is a gate of another step than the first one", reason="OTHER_STEP", gate_id=gate_id
                )
            approves = self._request.decision == "approve"
            ballot = Ballot(
                vote=self._request.decision,
                comment=self._request.comment,
                reason_code=self._request.reason_code,
                expected_digest=digest,
                check=form_check(None) if approves else None,
                via="batch",
            )
            async with self._room:
                decided = await self._gates.decide(
                    self._caller.owner_id,
                    None,
                    gate_id,
                    decider=decider_of(self._caller),
                    ballot=ballot,
                    fresh=self._caller.key_id is not None,
                )
        except WfeError as refusal:
            return pb.BatchResult(approval_id=str(gate_id), reason=refusal.reason, message=refusal.message)
        if decided.decision is not None:
            self.decisions.append(decided.decision)
        return pb.BatchResult(approval_id=str(gate_id), status=decided.gate.status)
