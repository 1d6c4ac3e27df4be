"""Calls of other systems: who made them, what they say, and what they are to do."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from wfe_engine.errors import InvalidInput, Violation
from wfe_language import ExpressionError, outside_expression, reserved_key_in
from wfe_servicekit.checks import parse_uuid
from wfe_servicekit.values import MAX_BYTES
from wfe_store.hooks import Hook, Hooks
from wfe_store.sealing import Cipher

from wfe_approvals.bus import Bus
from wfe_approvals.webhooks.pool import Pool
from wfe_approvals.webhooks.signing import refusal, verify_standard

MAPPING_ROOTS = ("body", "headers")
#: Bytes of a call's body.
MOST_BODY = 512 * 1024
#: Levels of a body's objects and lists; other senders nest deeper than the API's own bodies, and name what is taken.
_MOST_LEVELS = 100
#: Headers that say something about the call, besides those that begin with x-; none of them says who calls.
_SHOWN = frozenset({"content-type", "user-agent", "webhook-id"})
_SECRET_LIKE = re.compile(r"authorization|signature|token|secret|cookie|api-key|forwarded")
_GITHUB = re.compile(r"sha256=([0-9a-f]{64})", re.ASCII)

#: A header of the call by name, in lower case; None when absent.
Header = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Inbound:
    """What the use cases about hooks need.

    Attributes:
        hooks: Of the store.
        bus: To ask a scheduler for a start or a signal.
        pool: Evaluates filters and mappings.
        sealer: Seals secrets; None without a key.
    """

    hooks: Hooks
    bus: Bus
    pool: Pool
    sealer: Cipher | None


def verified(hook: Hook, secret: str, body: bytes, header: Header) -> str:
    """Check the signature of a call over its raw body; gives an id that the signature vouches for.

    Of Standard Webhooks that is the webhook-id. What GitHub signs is the body alone, and anybody who saw a call could
    send it again under another delivery id; so there the body's own hash is the id.

    Raises:
        Unauthenticated: Whatever is wrong with it.
    """
    if hook.scheme == "standard":
        return verify_standard(
            secret,
            body,
            message_id=header("webhook-id"),
            timestamp=header("webhook-timestamp"),
            signature=header("webhook-signature"),
        )
    match = _GITHUB.fullmatch(header("x-hub-signature-256") or "")
    wanted = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if match is None or not hmac.compare_digest(match[1], wanted):
        raise refusal()
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def parse_body(body: bytes) -> Any:
    """The JSON of a verified body.

    Raises:
        InvalidInput: It is none, is nested too deep, or has a key that only the engine writes.
    """
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("is not JSON", field="body") from None
    if _is_deeper(found, _MOST_LEVELS):
        raise InvalidInput(f"must be nested at most {_MOST_LEVELS} levels deep", field="body")
    if (key := reserved_key_in(found)) is not None:
        raise InvalidInput(_reserved(key), field="body")
    return found


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether objects and lists are in each other for more levels; found without recursion."""
    inner = [value]
    for _ in range(levels):
        insides = (one.values() if isinstance(one, dict) else one for one in inner if isinstance(one, dict | list))
        inner = [each for inside in insides for each in inside]
    return any(isinstance(each, dict | list) for each in inner)


def shown_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """The headers filters and mappings may see: none that lets anybody in."""
    return {
        name: value
        for name, value in metadata.items()
        if (name in _SHOWN or name.startswith("x-")) and _SECRET_LIKE.search(name) is None
    }


def check_mapping(source: str, field: str) -> None:
    """Check that an expression over body and headers compiles.

    Raises:
        InvalidInput: It does not.
    """
    try:
        outside_expression(source, MAPPING_ROOTS)
    except ExpressionError as fault:
        raise InvalidInput(f"is not CEL over body and headers: {fault.message}", field=field) from None


async def passes(pool: Pool, hook: Hook, bindings: Mapping[str, Any]) -> bool:
    """Whether the hook's filter gives true; one that fails does not.

    Raises:
        Unavailable, ResourceExhausted: There is no room to evaluate it now.
    """
    if not hook.filter:
        return True
    try:
        return await pool.evaluate(outside_expression(hook.filter, MAPPING_ROOTS), bindings) is True
    except ExpressionError:
        return False


async def mapped(pool: Pool, hook: Hook, bindings: Mapping[str, Any]) -> bytes:
    """The run's input, or the signal's payload, as JSON.

    Raises:
        InvalidInput: The body does not have what the mapping wants, or the mapping gives what may not be given; all of
            it is named.
        Unavailable, ResourceExhausted: There is no room to evaluate it now.
    """
    found, faults = {}, []
    for name, source in hook.input.items():
        try:
            value = found[name] = await pool.evaluate(outside_expression(source, MAPPING_ROOTS), bindings)
        except ExpressionError as fault:
            faults.append(Violation(f"input.{name}", fault.message))
            continue
        # An expression can make keys of any text of the call.
        if (key := reserved_key_in(value)) is not None:
            faults.append(Violation(f"input.{name}", _reserved(key)))
    if faults:
        raise InvalidInput(faults)
    encoded = msgspec.json.encode(found)
    if len(encoded) > MAX_BYTES:
        raise InvalidInput(f"must be at most {MAX_BYTES} bytes, has {len(encoded)}", field="input")
    return encoded


async def signalled(pool: Pool, hook: Hook, bindings: Mapping[str, Any]) -> UUID:
    """The run that a signal is for.

    Raises:
        InvalidInput: The call does not name one.
        Unavailable, ResourceExhausted: There is no room to evaluate it now.
    """
    try:
        found = await pool.evaluate(outside_expression(hook.workflow, MAPPING_ROOTS), bindings)
    except ExpressionError as fault:
        raise InvalidInput(fault.message, field="workflow") from None
    return parse_uuid(found if isinstance(found, str) else "", "workflow")


def _reserved(key: str) -> str:
    return f"has the key {key[:60]}, which is the engine's own: call it something else"
