"""CallbackService: answers from outside, by token."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

import re
from typing import Any

import msgspec
from wfe.api.v1 import callback_service_pb2, callback_service_pb2_grpc
from wfe_engine import commands as cmd
from wfe_engine.errors import NotFound
from wfe_servicekit.checks import Violations, choice, plain_text

from wfe_scheduler.api import requests
from wfe_scheduler.api.engine import Engine
from wfe_scheduler.callbacks import Callbacks
from wfe_scheduler.ids import new_id

MOST_PROGRESS_BYTES = 4096
LONGEST_MESSAGE = 2000
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,62}", re.ASCII)


class CallbackService(callback_service_pb2_grpc.CallbackServiceServicer):  # type: ignore[misc]
    """Turns answers into commands of the runs that wait for them."""

    def __init__(self, engine: Engine, callbacks: Callbacks | None) -> None:
        self._engine = engine
        self._callbacks = callbacks

    async def AnswerCallback(
        self, request: callback_service_pb2.AnswerCallbackRequest, context: Any
    ) -> callback_service_pb2.AnswerCallbackResponse:
        """Take an answer, or note that one is still being worked on.

        Raises:
            NotFound: CALLBACK_UNKNOWN: no such token; the same for every token that is none.
            StateConflict: CALLBACK_ANSWERED, RUN_STATE.
        """
        faults = Violations()
        with faults.collect():
            choice(request.outcome or "succeed", "outcome", ("succeed", "fail", "heartbeat"))
        if request.code and not _CODE.fullmatch(request.code):
            faults.add("code", "must be A-Z, 0-9 and _, beginning with a letter")
        with faults.collect():
            plain_text(request.message, "message", longest=LONGEST_MESSAGE, line_breaks=True)
        payload = requests.payload(faults, request.payload, "payload")
        progress = requests.payload(faults, request.progress, "progress", most=MOST_PROGRESS_BYTES)
        faults.raise_if_any()
        found = None if self._callbacks is None else self._callbacks.read(request.token)
        if found is None:
            raise NotFound("there is no such callback", reason="CALLBACK_UNKNOWN")
        run, name = found
        command: cmd.Command
        if request.outcome == "heartbeat":
            command = cmd.Alive(name=name, progress=None if progress == b"null" else progress)
        elif request.outcome == "fail":
            told = {"code": request.code, "message": request.message}
            command = cmd.Signal(signal=new_id(), name=name, payload=msgspec.json.encode(told), failed=True)
        else:
            command = cmd.Signal(signal=new_id(), name=name, payload=payload)
        await self._engine.answer(run, command)
        return callback_service_pb2.AnswerCallbackResponse(status="accepted")
