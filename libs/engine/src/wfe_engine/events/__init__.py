"""What can happen to a run. Events are its audit log and the only source of its state (`evolve`).

An event's data is JSON of its struct; fields with their default are left out. Data never holds outputs (they are in
step rows) nor sensitive values. Who and when is the same for all events of one decision and lies beside the data.
"""

from __future__ import annotations

import msgspec

from wfe_engine.events.base import Event, StepEvent
from wfe_engine.events.gates import (
    NOTED,
    ApprovalApproved,
    ApprovalBypassed,
    ApprovalClaimed,
    ApprovalDelegated,
    ApprovalEdited,
    ApprovalEscalated,
    ApprovalExpired,
    ApprovalExpiring,
    ApprovalExtended,
    ApprovalLinkIssued,
    ApprovalLinkRefused,
    ApprovalLinkUsed,
    ApprovalOpened,
    ApprovalRejected,
    ApprovalReleased,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalRevised,
    ApprovalSuperseded,
    ApprovalVoted,
    ApprovalVoteWithdrawn,
    ApprovalWithdrawn,
    GateDecided,
    GateEvent,
    GateNoted,
)
from wfe_engine.events.runs import (
    RunCancelled,
    RunCompensating,
    RunCompleted,
    RunCreated,
    RunFailed,
    RunPaused,
    RunResumed,
    RunRetried,
    RunRolledBack,
    RunStarted,
    SnapshotCreated,
)
from wfe_engine.events.steps import (
    BlockEnded,
    BlockFailing,
    CallbackAlive,
    CompensationNoted,
    Emitted,
    SignalReceived,
    SignalTaken,
    StepCancelled,
    StepCompleted,
    StepEdited,
    StepFailed,
    StepFailing,
    StepReady,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepWaiting,
)

TYPES: dict[str, type[Event]] = {
    kind.TYPE: kind
    for kind in (
        RunCreated, RunStarted, RunPaused, RunResumed, RunCompleted, RunFailed, RunCancelled, RunCompensating,
        RunRetried, RunRolledBack, SnapshotCreated, BlockFailing, SignalReceived, CompensationNoted, StepReady,
        StepStarted, StepFailing, BlockEnded, Emitted, StepWaiting, SignalTaken, CallbackAlive, StepRetrying,
        StepCompleted, StepFailed, StepEdited, StepSkipped, StepCancelled, ApprovalRequested, ApprovalApproved,
        ApprovalRejected, ApprovalExpired, ApprovalWithdrawn, ApprovalSuperseded, ApprovalRevised, ApprovalOpened,
        ApprovalReminded, ApprovalExpiring, ApprovalEscalated, ApprovalClaimed, ApprovalReleased, ApprovalDelegated,
        ApprovalVoted, ApprovalVoteWithdrawn, ApprovalEdited, ApprovalExtended, ApprovalLinkIssued, ApprovalLinkUsed,
        ApprovalLinkRefused, ApprovalBypassed,
    )
}  # fmt: skip

#: Types after which a watch of the run ends.
ENDS = frozenset({RunCompleted.TYPE, RunFailed.TYPE, RunCancelled.TYPE})

_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in TYPES.items()}


def encode_event(event: Event) -> bytes:
    """JSON of an event's data; its type goes beside it."""
    return _encoder.encode(event)


def decode_event(name: str, data: bytes | str) -> Event:
    """The event of a type and its data.

    Raises:
        KeyError: No such type.
        msgspec.ValidationError: The data are not of it.
    """
    return _decoders[name].decode(data)


__all__ = [
    "ENDS",
    "NOTED",
    "TYPES",
    "ApprovalApproved",
    "ApprovalBypassed",
    "ApprovalClaimed",
    "ApprovalDelegated",
    "ApprovalEdited",
    "ApprovalEscalated",
    "ApprovalExpired",
    "ApprovalExpiring",
    "ApprovalExtended",
    "ApprovalLinkIssued",
    "ApprovalLinkRefused",
    "ApprovalLinkUsed",
    "ApprovalOpened",
    "ApprovalRejected",
    "ApprovalReleased",
    "ApprovalReminded",
    "ApprovalRequested",
    "ApprovalRevised",
    "ApprovalSuperseded",
    "ApprovalVoteWithdrawn",
    "ApprovalVoted",
    "ApprovalWithdrawn",
    "BlockEnded",
    "BlockFailing",
    "CallbackAlive",
    "CompensationNoted",
    "Emitted",
    "Event",
    "GateDecided",
    "GateEvent",
    "GateNoted",
    "RunCancelled",
    "RunCompensating",
    "RunCompleted",
    "RunCreated",
    "RunFailed",
    "RunPaused",
    "RunResumed",
    "RunRetried",
    "RunRolledBack",
    "RunStarted",
    "SignalReceived",
    "SignalTaken",
    "SnapshotCreated",
    "StepCancelled",
    "StepCompleted",
    "StepEdited",
    "StepEvent",
    "StepFailed",
    "StepFailing",
    "StepReady",
    "StepRetrying",
    "StepSkipped",
    "StepStarted",
    "StepWaiting",
    "decode_event",
    "encode_event",
]
