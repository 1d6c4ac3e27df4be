"""A call of another system."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_bus.asks import SendSignal, StartRun
from wfe_engine.errors import InvalidInput, StateConflict
from wfe_servicekit.calls import current_call
from wfe_servicekit.checks import parse_uuid
from wfe_store.hooks import Hook, Receipt
from wfe_store.sealing import Unreadable, bound_to_hook

from wfe_approvals.webhooks.inbound import (
    MOST_BODY,
    Header,
    Inbound,
    mapped,
    parse_body,
    passes,
    shown_headers,
    signalled,
    verified,
)
from wfe_approvals.webhooks.signing import refusal


async def receive_hook(inbound: Inbound, request: pb.ReceiveHookRequest, header: Header) -> pb.HookReceipt:
    """Let a call in by its signature, and start or signal the run it asks for.

    That happens under a key made of the hook and the message, so a message that comes twice, at once or after a crash,
    starts one run or sends one signal. Nothing of the body is kept but what the mapping takes of it.

    Raises:
        Unauthenticated: There is no such hook, or its signature is not right; nobody is told which.
        InvalidInput: The body is not JSON, or does not have what the mapping or the template wants.
        NotFound: There is no such run to signal, or the template is gone.
        StateConflict: The run to signal has ended; HOOK_SECRET_UNREADABLE.
        Unavailable: No scheduler answered; nothing was promised, and the sender should try again.
    """
    body = request.body.data
    hook = await _hook(inbound, request.id)
    if hook is None or inbound.sealer is None:
        raise refusal()
    try:
        secret = inbound.sealer.open(bound_to_hook(hook.id.bytes), hook.secret).decode()
    except Unreadable:
        raise StateConflict(
            "the hook's secret cannot be opened: the sealing key is another one; make the hook anew",
            reason="HOOK_SECRET_UNREADABLE",
        ) from None
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
    return _answer(receipt, duplicate=False)


async def _hook(inbound: Inbound, text: str) -> Hook | None:
    try:
        hook_id = parse_uuid(text, "id")
    except InvalidInput:
        return None
    return await inbound.hooks.find(hook_id)


async def _act(inbound: Inbound, hook: Hook, message_id: str, bindings: dict[str, Any]) -> Receipt:
    """Do what the hook is for."""
    values = await mapped(inbound.pool, hook, bindings)
    digest = hashlib.sha256(message_id.encode())
    key = f"hook:{hook.id}:{digest.hexdigest()}"
    if hook.template_id is None:
        run = await signalled(inbound.pool, hook, bindings)
        await inbound.bus.ask(
            SendSignal(
                owner=hook.owner_id.bytes,
                principal=hook.created_by.bytes,
                run=run.bytes,
                name=hook.signal,
                payload=values,
                key=key,
            )
        )
        return Receipt("signalled", run)
    started = await inbound.bus.ask(
        StartRun(
            owner=hook.owner_id.bytes,
            principal=hook.created_by.bytes,
            template=hook.template_id.bytes,
            version=hook.version,
            input=values,
            trigger="webhook",
            key=key,
            # Of the message alone: the mapping is deterministic, and the template may have got another version.
            key_hash=digest.digest(),
        )
    )
    return Receipt("started", UUID(bytes=started))


def _metadata() -> dict[str, str]:
    call = current_call()
    pairs = () if call is None else call.metadata
    return {name: value for name, value in pairs if isinstance(value, str)}


def _answer(receipt: Receipt, *, duplicate: bool) -> pb.HookReceipt:
    return pb.HookReceipt(status=receipt.status, workflow_id=str(receipt.run_id or ""), duplicate=duplicate)
