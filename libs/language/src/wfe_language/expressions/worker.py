"""A process that evaluates expressions for an `ExpressionPool` and may be killed at any moment.

Frames on stdin and stdout: four bytes of length, big-endian, then MessagePack. It says ready with an empty
frame. The time bound is CPU time and kept by the kernel: SIGPROF ends the process, whatever the CEL library
is doing, and a busy machine does not make a harmless expression fail.
"""

from __future__ import annotations

import resource
import signal
import sys
from typing import Any, BinaryIO

import msgspec
from wfe_engine import plan

from wfe_language.expressions.environment import OUTSIDE_ROOTS, environment, outside_environment
from wfe_language.expressions.evaluator import CelEvaluator, ExpressionError


class Request(msgspec.Struct, frozen=True):
    """An expression, and the values it refers to."""

    expression: plan.Cel
    bindings: dict[str, Any]


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What it gives, or why it does not."""

    value: Any = None
    error: str = ""


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    return stream.read(int.from_bytes(head))


def frame(body: bytes) -> bytes:
    """A body with its length before it."""
    return len(body).to_bytes(4) + body


def main(cpu_seconds: float, memory: int) -> None:
    """Evaluates until stdin ends."""
    # Made before the first clock runs.
    for roots in OUTSIDE_ROOTS:
        outside_environment(roots)
    environment()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    evaluator = CelEvaluator()
    decode = msgspec.msgpack.Decoder(Request).decode
    stdout = sys.stdout.buffer
    stdout.write(frame(b""))
    stdout.flush()
    while (body := read_frame(sys.stdin.buffer)) is not None:
        request = decode(body)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        try:
            answer = Answer(value=evaluator.evaluate(request.expression, request.bindings))
        except ExpressionError as error:
            answer = Answer(error=error.message)
        except MemoryError:
            answer = Answer(error="It takes too much memory.")
        signal.setitimer(signal.ITIMER_PROF, 0)
        stdout.write(frame(msgspec.msgpack.encode(answer)))
        stdout.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
