"""UUIDv7: ids in the order of their making, so that rows made together lie together."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_run_id() -> UUID:
    """A fresh UUIDv7 of the present millisecond."""
    random = int.from_bytes(os.urandom(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0x2 << 62 | random & (1 << 62) - 1
    return UUID(int=value)


def new_id() -> str:
    """The same as text, for gates and snapshots."""
    return str(new_run_id())
