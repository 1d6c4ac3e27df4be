"""Checks of requests: every violation of one request is named at once."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from google.protobuf.struct_pb2 import Value
from wfe_engine.errors import InvalidInput
from wfe_language import reserved_key_in
from wfe_servicekit.calls import current_call, header, large_value
from wfe_servicekit.checks import Violations, choice, from_timestamp, page, parse_uuid, plain_text
from wfe_servicekit.values import MAX_BYTES, value_to_plain
from wfe_store.runs import STATUSES, Filters

from wfe_scheduler.api.engine import StartOptions

MOST_LABELS = 32
LONGEST_LABEL = 63
LONGEST_REASON = 1_000
LONGEST_SNAPSHOT_NAME = 100
MOST_WAIT_SECONDS = 60
#: What a store's integer column holds.
LARGEST = 2**31 - 1

#: How far ahead a start may be.
MOST_DELAY = dt.timedelta(days=366)

_SIGNAL_RULE = "must be letters, digits and _ . -, beginning with a letter, at most 100 characters"
_SIGNAL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def run_action(request: Any) -> tuple[UUID, str]:
    """Run and reason of an action on one run."""
    faults = Violations()
    run_id = uuid(faults, request.id, "id")
    text = reason(faults, request.reason)
    faults.raise_if_any()
    return run_id, text


def uuid(faults: Violations, text: str, field: str) -> UUID:
    """A UUID, or a violation noted; what is given then is never used."""
    found = UUID(int=0)
    with faults.collect():
        found = parse_uuid(text, field)
    return found  # noqa: RET504 - collect() goes on after a fault


def reason(faults: Violations, text: str) -> str:
    """A reason, checked."""
    with faults.collect():
        plain_text(text, "reason", longest=LONGEST_REASON, line_breaks=True)
    return text


def signal_name(faults: Violations, text: str) -> str:
    """Name of a signal, checked."""
    if not _SIGNAL.fullmatch(text):
        faults.add("name", _SIGNAL_RULE)
    return text


def payload(faults: Violations, value: Value, field: str, *, most: int = MAX_BYTES) -> bytes:
    """JSON bytes of a value; null when it is not given."""
    large = large_value(field)
    if large is not None:
        if (key := reserved_in(large)) is not None:
            faults.add(field, f"has the key {key}, which is the engine's own: call it something else")
        return large
    if value.WhichOneof("kind") is None:
        return b"null"
    encoded = b"null"
    with faults.collect():
        encoded = msgspec.json.encode(value_to_plain(value, field))
    if len(encoded) > most:
        faults.add(field, f"must be at most {most} bytes, has {len(encoded)}")
    elif (key := reserved_key_in(msgspec.json.decode(encoded))) is not None:
        faults.add(field, f"has the key {key}, which is the engine's own: call it something else")
    return encoded


def reserved_in(data: bytes) -> str | None:
    """A key of the engine's in JSON bytes; None without one."""
    if b'"$' not in data:
        return None
    return reserved_key_in(msgspec.json.decode(data))


def start_options(faults: Violations, request: Any) -> StartOptions:
    """When a start is to happen, and what the run is told at it, checked."""
    start_at = delay = signal = None
    with faults.collect():
        moment = from_timestamp(request, "start_at")
        if moment is not None and moment - dt.datetime.now(dt.UTC) > MOST_DELAY:
            raise InvalidInput(f"must be at most {MOST_DELAY.days} days ahead", field="start_at")
        start_at = None if moment is None else moment.timestamp()
    if request.delay_seconds:
        delay = float(at_least(faults, request.delay_seconds, "delay_seconds", 0))
        if delay > MOST_DELAY.total_seconds():
            faults.add("delay_seconds", f"must be at most {MOST_DELAY.total_seconds():.0f}")
    if request.HasField("signal"):
        if not _SIGNAL.fullmatch(request.signal.name):
            faults.add("signal.name", _SIGNAL_RULE)
        signal = (request.signal.name, payload(faults, request.signal.payload, "signal.payload"))
    trigger = "api" if signal is None else "signal"
    return StartOptions(trigger=trigger, start_at=start_at, delay=delay, signal=signal)


def labels(faults: Violations, given: Mapping[str, str]) -> dict[str, str]:
    """Labels of a run, checked."""
    if len(given) > MOST_LABELS:
        faults.add("labels", f"must be at most {MOST_LABELS}, are {len(given)}")
        return {}
    for name, value in given.items():
        _label(faults, f"labels.{name[:LONGEST_LABEL]}", name, value)
    return dict(given)


def label_filters(faults: Violations, given: Sequence[str]) -> list[tuple[str, str]]:
    """Label filters, checked: `name=value`."""
    if len(given) > MOST_LABELS:
        faults.add("label", f"must be given at most {MOST_LABELS} times, is {len(given)} times")
        return []
    found = []
    for position, text in enumerate(given):
        name, separator, value = text.partition("=")
        field = f"label[{position}]"
        if separator:
            _label(faults, field, name, value)
            found.append((name, value))
        else:
            faults.add(field, "is not of the form name=value")
    return found


def _label(faults: Violations, field: str, name: str, value: str) -> None:
    with faults.collect():
        plain_text(name, field, longest=LONGEST_LABEL, shortest=1)
        if "=" in name:
            raise InvalidInput("a label's name cannot hold =", field=field)
    with faults.collect():
        plain_text(value, field, longest=LONGEST_LABEL)


def filters(faults: Violations, request: Any) -> Filters:
    """Filters of a list of runs, checked."""
    status = template_id = after = before = None
    if request.status:
        with faults.collect():
            status = choice(request.status, "status", STATUSES)
    if request.template_id:
        template_id = uuid(faults, request.template_id, "template_id")
    wanted = label_filters(faults, request.label)
    with faults.collect():
        after = from_timestamp(request, "created_after")
    with faults.collect():
        before = from_timestamp(request, "created_before")
    return Filters(status=status, template_id=template_id, labels=wanted, created_after=after, created_before=before)


def page_of(faults: Violations, request: Any) -> tuple[int, int]:
    """Limit and offset of a list, checked."""
    found = (0, 0)
    with faults.collect():
        found = page(request.limit, request.offset)
    return found  # noqa: RET504 - as above


def at_least(faults: Violations, number: int, field: str, least: int) -> int:
    """A whole number that must not be smaller."""
    if number < least:
        faults.add(field, f"must be at least {least}")
    return number


def wait_seconds(faults: Violations, request: Any) -> int:
    """Seconds to wait for a run's end at most; 0 for not at all."""
    seconds = at_least(faults, request.wait_seconds, "wait_seconds", 0)
    if seconds > MOST_WAIT_SECONDS:
        faults.add("wait_seconds", f"must be at most {MOST_WAIT_SECONDS}")
    return seconds


def idempotency_key(faults: Violations) -> str | None:
    """The Idempotency-Key of this call; None without one."""
    key = header("idempotency-key")
    if key is not None and _KEY.fullmatch(key) is None:
        faults.add("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
    return key


def body_hash(rpc: str, request: Any) -> bytes:
    """What tells two requests with one Idempotency-Key apart: SHA-256 over the method's name and the request."""
    found = hashlib.sha256(rpc.encode() + b"\0" + request.SerializeToString(deterministic=True))
    call = current_call()
    for field, value in sorted(call.large.items()) if call is not None else ():
        found.update(b"\0" + field.encode() + b"\0" + value)
    return found.digest()
