"""A call of another system."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import msgspec
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_bus.messages import StartRun
from wfe_engine.errors import InvalidInput
from wfe_servicekit.calls import current_call, http_status
from wfe_servicekit.checks import parse_uuid
from wfe_store.hooks import Hook, Receipt
from wfe_store.sealing import bound_to_hook

from wfe_approvals.webhooks.inbound import (
    MOST_BODY,
    Header,
    Inbound,
    mapped,
    parse_body,
    passes,
    shown_headers,
    verified,
)
from wfe_approvals.webhooks.signing import refusal


async def receive_hook(inbound: Inbound, request: pb.ReceiveHookRequest, header: Header) -> pb.HookReceipt:
    """Let a call in by its signature, and start the run it asks for. Answers 201 when it started one now.

    The run is started under a key made of the hook and the message, so a message that comes twice, at once or after
    a crash, starts one run. Nothing of the body is kept but what the run's input takes of it.

    Raises:
        Unauthenticated: There is no such hook, or its signature is not right; nobody is told which.
        InvalidInput: The body is not JSON, or does not have what the mapping or the template wants.
        Unavailable: No scheduler answered; nothing was promised, and the sender should try again.
    """
    body = request.body.data
    hook = await _hook(inbound, request.id)
    if hook is None or inbound.sealer is None:
        raise refusal()
    secret = inbound.sealer.open(bound_to_hook(hook.id.bytes), hook.secret).decode()
    message_id = verified(hook, secret, body, header)
    if len(body) > MOST_BODY:
        raise InvalidInput(f"is {len(body)} bytes, more than {MOST_BODY}", field="body")
    if (known := await inbound.hooks.receipt(hook.id, message_id)) is not None:
        return _answer(known, duplicate=True)
    bindings = {"body": parse_body(body), "headers": shown_headers(_metadata())}
    if await passes(inbound.pool, hook, bindings):
        receipt = await _act(inbound, hook, message_id, bindings)
    else:
        receipt = Receipt("filtered")
    await inbound.hooks.receive(hook.id, message_id, receipt)
    if receipt.status == "started":
        http_status(201)
    return _answer(receipt, duplicate=False)


async def _hook(inbound: Inbound, text: str) -> Hook | None:
    try:
        hook_id = parse_uuid(text, "id")
    except InvalidInput:
        return None
    return await inbound.hooks.find(hook_id)


async def _act(inbound: Inbound, hook: Hook, message_id: str, bindings: dict[str, Any]) -> Receipt:
    """Do what the hook is for. Starting a run is all there is yet; sending a signal has its place here."""
    values = msgspec.json.encode(await mapped(inbound.pool, hook, bindings))
    run = await inbound.bus.start(
        StartRun(
            owner=hook.owner_id.bytes,
            principal=hook.created_by.bytes,
            template=hook.template_id.bytes,
            version=hook.version,
            input=values,
            trigger="webhook",
            key=f"hook:{hook.id}:{hashlib.sha256(message_id.encode()).hexdigest()}",
            # Of the message alone: the mapping is deterministic, and the template may have got another version.
            key_hash=hashlib.sha256(message_id.encode()).digest(),
        )
    )
    return Receipt("started", UUID(bytes=run))


def _metadata() -> dict[str, str]:
    call = current_call()
    pairs = () if call is None else call.metadata
    return {name: value for name, value in pairs if isinstance(value, str)}


def _answer(receipt: Receipt, *, duplicate: bool) -> pb.HookReceipt:
    return pb.HookReceipt(status=receipt.status, workflow_id=str(receipt.run_id or ""), duplicate=duplicate)
