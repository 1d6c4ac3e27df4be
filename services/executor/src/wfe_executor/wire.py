"""What the executor and its worker processes say to each other, over a pair of sockets.

A frame is four bytes of length, big-endian, and one message in MessagePack.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from wfe_bus.messages import Failure


class Start(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """Run a handler. `no` numbers the jobs of one worker; `input` is JSON; the rest is the StepContext's."""

    no: int
    handler: str
    input: bytes
    run_id: str
    step: str
    idempotency_key: str
    attempt: int
    max_attempts: int
    iteration: str
    visit: int
    owner: str
    deadline: float | None


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Stop the job; the worker is killed if it does not."""

    no: int


class Up(msgspec.Struct, tag=True, frozen=True):
    """The worker has imported its modules."""


class Beat(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """The handler is alive; `progress` is JSON, `refused` says why it is not there."""

    no: int
    progress: bytes | None = None
    refused: str = ""


class Done(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """The job ended, with JSON that passed the gate or with a failure; `trace` is for the log."""

    no: int
    output: bytes | None = None
    failure: Failure | None = None
    trace: str = ""


ToWorker: TypeAlias = Start | Cancel
FromWorker: TypeAlias = Up | Beat | Done

_encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode


def frame(message: ToWorker | FromWorker) -> bytes:
    """A message as it goes over the socket."""
    data = _encode(message)
    return len(data).to_bytes(4, "big") + data


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of all frames that are complete now."""
        self._buffer += data
        bodies = []
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[4:end]))
            del self._buffer[:end]
        return bodies
