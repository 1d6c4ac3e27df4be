"""What follows from each answer to a gate."""

from __future__ import annotations

from wfe.api.v1 import approval_service_pb2 as pb
from wfe_servicekit.calls import Caller
from wfe_servicekit.checks import parse_uuid
from wfe_store.gates import Gates

from wfe_approvals.previews import Answer, Previews


async def preview_gate(
    gates: Gates, previews: Previews, caller: Caller, request: pb.PreviewApprovalRequest
) -> pb.ApprovalPreview:
    """What is known now of what follows; nothing for a gate that is closed.

    Raises:
        InvalidInput: The id is no UUID.
        NotFound: The caller's owner has no such gate.
    """
    (gate,) = await gates.whole(await gates.get(caller.owner_id, parse_uuid(request.approval_id, "approval_id")))
    answers = await previews.of(caller.owner_id, gate) if gate.status in ("open", "scheduled") else []
    return pb.ApprovalPreview(
        approval_id=str(gate.id), digest=gate.digest, outcomes=[_outcome(answer) for answer in answers]
    )


def _outcome(answer: Answer) -> pb.PreviewOutcome:
    return pb.PreviewOutcome(
        answer=answer.answer,
        outcome=answer.outcome,
        run=answer.run,
        steps=[
            pb.PreviewStep(
                path=step.path,
                kind=step.kind,
                effect=step.effect,
                target=step.target,
                undo=step.undo,
                certain=step.certain,
            )
            for step in answer.steps
        ],
        gates=answer.gates,
    )
