"""The process that reads large requests: orders on stdin, answers on stdout, each with its length before it.

It may be killed at any moment. What one request may take is kept by the kernel: SIGPROF ends the process.
"""

from __future__ import annotations

import importlib
import resource
import signal
import sys
from typing import Any

import msgspec
from google.protobuf.struct_pb2 import Struct
from wfe_engine.errors import InvalidInput
from wfe_engine.sizes import MOST_BYTES

from wfe_servicekit.large import LARGE_REQUEST_BYTES, Answer, Order, frame
from wfe_servicekit.values import struct_to_dict, value_to_plain

#: What it may take, so that no request takes the machine: seconds of the processor, bytes of address space.
_SECONDS, _MEMORY = 50, 3 << 30


def answer(order: Order) -> Answer:
    """The request without its large values, and these."""
    request = getattr(importlib.import_module(order.module), order.message).FromString(order.request)
    values: dict[str, bytes] = {}
    faults: list[tuple[str, str]] = []
    for field in order.fields:
        *way, last = field.split(".")
        holder: Any = request
        for name in way:
            if not holder.HasField(name):
                break
            holder = getattr(holder, name)
        else:
            if holder.HasField(last):
                try:
                    values[field] = _read(getattr(holder, last), field)
                except InvalidInput as refusal:
                    faults += [(found.field, found.message) for found in refusal.violations]
                holder.ClearField(last)
    return Answer(request.SerializeToString(deterministic=True), values, faults)


def _read(value: Any, field: str) -> bytes:
    read = struct_to_dict if isinstance(value, Struct) else value_to_plain
    data = msgspec.json.encode(read(value, field, max_bytes=LARGE_REQUEST_BYTES))
    if len(data) > MOST_BYTES:
        message = f"is {len(data)} bytes as JSON, more than {MOST_BYTES}: store large values elsewhere"
        raise InvalidInput(message, field=field)
    return data


def main() -> None:
    """Read requests until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while len(head := stdin.read(4)) == 4:
        order = msgspec.msgpack.decode(stdin.read(int.from_bytes(head)), type=Order)
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        answered = answer(order)
        signal.setitimer(signal.ITIMER_PROF, 0)
        stdout.write(frame(msgspec.msgpack.encode(answered)))
        stdout.flush()


if __name__ == "__main__":
    main()
