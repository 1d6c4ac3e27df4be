"""Which error becomes which answer: on the wire for the main ones, and by value for the corners."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_engine import errors
from wfe_engine.errors import InvalidInput, ResourceExhausted, StateConflict, Violation, WfeError
from wfe_servicekit.statuses import (
    DeadlineExceeded,
    MalformedRequest,
    RequestTooLarge,
    Unimplemented,
    wire_error,
)
from wfe_servicekit.testing import refused

CODE = grpc.StatusCode

TABLE = [
    (errors.InvalidInput("is wrong", field="input.tone"), CODE.INVALID_ARGUMENT, "INVALID_INPUT", None),
    (errors.Unauthenticated("who?"), CODE.UNAUTHENTICATED, "UNAUTHENTICATED", None),
    (errors.PermissionDenied("no"), CODE.PERMISSION_DENIED, "PERMISSION_DENIED", None),
    (errors.NotFound("none", id="r1"), CODE.NOT_FOUND, "NOT_FOUND", None),
    (
        errors.StateConflict("ended", reason="RUN_ENDED", id="r1"),
        CODE.FAILED_PRECONDITION,
        "RUN_ENDED",
        "409",
    ),
    (errors.AlreadyExists("taken", name="n"), CODE.ALREADY_EXISTS, "ALREADY_EXISTS", None),
    (errors.ResourceExhausted("slow", retry_after=2.5), CODE.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED", None),
    (errors.Unavailable("down"), CODE.UNAVAILABLE, "UNAVAILABLE", None),
    (DeadlineExceeded("late"), CODE.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", None),
    (Unimplemented("not yet"), CODE.UNIMPLEMENTED, "UNIMPLEMENTED", None),
    (MalformedRequest("broken"), CODE.INVALID_ARGUMENT, "MALFORMED_REQUEST", None),
    (RequestTooLarge("large"), CODE.INVALID_ARGUMENT, "REQUEST_TOO_LARGE", "413"),
]


@pytest.mark.parametrize(("error", "code", "reason", "http"), TABLE, ids=lambda v: type(v).__name__)
async def test_each_error_has_its_code_reason_and_http_status(
    serve: Any, error: WfeError, code: grpc.StatusCode, reason: str, http: str | None
) -> None:
    served = await serve()

    async def start(request: Any, context: Any) -> Any:
        raise error

    served.servicer.start = start
    refusal = await refused(served.stub.StartWorkflow(pb.StartWorkflowRequest(), metadata=served.bearer("operator")))
    assert (refusal.code, refusal.message, refusal.info.reason) == (code, error.message, reason)
    assert dict(refusal.info.metadata) == error.metadata
    assert refusal.trailers.get("x-http-status") == http
    assert "x-http-status" not in refusal.initial


def test_every_error_of_the_engine_has_a_row() -> None:
    def all_of(cls: type[WfeError]) -> set[type[WfeError]]:
        return {cls}.union(*(all_of(sub) for sub in cls.__subclasses__()))

    in_engine = {cls for cls in all_of(WfeError) if cls.__module__ == errors.__name__} - {WfeError}
    assert in_engine <= {type(error) for error, *_ in TABLE}


def details_of(error: BaseException, **how: Any) -> dict[str, Any]:
    wire = wire_error(error, **how)
    status = Status.FromString(dict(wire.trailers)["grpc-status-details-bin"])
    found: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName().rsplit(".", 1)[1]
        found[name] = message = getattr(error_details_pb2, name)()
        packed.Unpack(message)
    return found


def test_a_subclass_takes_the_row_of_its_nearest_ancestor() -> None:
    class GateClosed(StateConflict):
        default_reason = "GATE_CLOSED"

    wire = wire_error(GateClosed("the gate is closed"))
    assert wire.code is CODE.FAILED_PRECONDITION
    assert dict(wire.trailers)["x-http-status"] == "409"


def test_all_violations_are_named() -> None:
    violations = [Violation(f"input.v{number}", "is required") for number in range(40)]
    named = details_of(InvalidInput(violations))["BadRequest"].field_violations
    assert [(v.field, v.description) for v in named] == [(v.field, v.message) for v in violations]


def test_more_violations_than_a_client_can_receive_are_counted() -> None:
    violations = [Violation(f"input.v{number}", "is required, says the template") for number in range(1_000)]
    error = InvalidInput(violations)
    for how, least in (({}, 30), ({"rest": True}, 400)):
        wire = wire_error(error, **how)
        named = details_of(error, **how)["BadRequest"].field_violations
        assert least < len(named) < 1_000
        assert named[-1].description == f"and {1_000 - len(named) + 1} more"
        size = len(wire.message) * 3 + sum(len(value) * 4 / 3 for _, value in wire.trailers)
        assert size < (48_000 if how else 7_900)


@pytest.mark.parametrize("text", ["x" * 100_000, "ü" * 50_000, "\ud800" * 9_000, "𝄞" * 9_000, ""])
async def test_texts_of_any_kind_and_length_reach_the_client(serve: Any, text: str) -> None:
    served = await serve()

    async def start(request: Any, context: Any) -> Any:
        raise InvalidInput([Violation(text, text)] * 3, **{f"n{n}": text for n in range(30)})

    served.servicer.start = start
    refusal = await refused(served.stub.StartWorkflow(pb.StartWorkflowRequest(), metadata=served.bearer("operator")))
    assert refusal.code is CODE.INVALID_ARGUMENT
    assert refusal.message


def test_a_limit_says_when_to_try_again() -> None:
    error = ResourceExhausted("too many runs", retry_after=2.25)
    delay = details_of(error)["RetryInfo"].retry_delay
    assert (delay.seconds, delay.nanos) == (2, 250_000_000)
    assert dict(wire_error(error).trailers)["retry-after"] == "3"


def test_a_conflict_names_its_subject() -> None:
    details = details_of(StateConflict("run r1 has ended", reason="RUN_ENDED", id="r1"))
    [violation] = details["PreconditionFailure"].violations
    assert (violation.type, violation.subject) == ("RUN_ENDED", "r1")


def test_a_group_of_several_errors_is_an_internal_error() -> None:
    group = ExceptionGroup("both", [errors.NotFound("a"), errors.NotFound("b")])
    assert wire_error(group).code is CODE.INTERNAL
    assert wire_error(ExceptionGroup("one", [errors.NotFound("a")])).code is CODE.NOT_FOUND


def test_the_base_class_itself_is_in_no_row() -> None:
    wire = wire_error(WfeError("secret text"))
    assert (wire.code, wire.message) == (CODE.INTERNAL, "internal error")
