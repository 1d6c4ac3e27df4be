"""Which methods take values up to 16 MB."""

from __future__ import annotations

from collections.abc import Mapping

from wfe_engine.errors import NotFound
from wfe_servicekit.large import Large

from wfe_scheduler.callbacks import Callbacks

__all__ = ["large_methods"]

_WORKFLOWS, _MENDING = "wfe.api.v1.workflow_service_pb2", "wfe.api.v1.mending_service_pb2"


def large_methods(callbacks: Callbacks | None) -> Mapping[str, Large]:
    """The methods by full name.

    Args:
        callbacks: Knows tokens: who has none is not read.
    """

    def admit(raw: bytes) -> None:
        token = first_field(raw, 1)
        if callbacks is None or callbacks.read(token.decode("utf-8", "replace")) is None:
            raise NotFound("there is no such callback", reason="CALLBACK_UNKNOWN")

    return {
        "/wfe.api.v1.WorkflowService/StartWorkflow": Large(
            _WORKFLOWS, "StartWorkflowRequest", ("input", "signal.payload")
        ),
        "/wfe.api.v1.WorkflowService/SignalWorkflow": Large(_WORKFLOWS, "SignalWorkflowRequest", ("payload",)),
        "/wfe.api.v1.MendingService/RetryStep": Large(_MENDING, "RetryStepRequest", ("input",)),
        "/wfe.api.v1.MendingService/CompleteStep": Large(_MENDING, "CompleteStepRequest", ("output",)),
        "/wfe.api.v1.CallbackService/AnswerCallback": Large(
            "wfe.api.v1.callback_service_pb2", "AnswerCallbackRequest", ("payload",), admit
        ),
    }


def first_field(raw: bytes, number: int) -> bytes:
    """Bytes of a text field of a protobuf message, without reading the rest of it; empty when it is not found."""
    at = 0
    try:
        while at < len(raw):
            tag, at = _varint(raw, at)
            if tag & 7 != 2:
                return b""
            size, at = _varint(raw, at)
            if tag >> 3 == number:
                return raw[at : at + size]
            at += size
    except IndexError:
        pass
    return b""


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128 or shift > 63:
            return value, at
        shift += 7
