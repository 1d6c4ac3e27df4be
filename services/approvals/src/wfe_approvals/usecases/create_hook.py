"""Make a hook."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from uuid import uuid4

from wfe.api.v1 import webhook_pb2
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_engine.errors import InvalidInput
from wfe_language import reserved_key_in
from wfe_servicekit.calls import Caller, http_status
from wfe_servicekit.checks import Violations, choice, parse_uuid, plain_text
from wfe_store.hooks import SCHEMES, Hook
from wfe_store.sealing import bound_to_hook

from wfe_approvals.inputs import NAME_CHARACTERS
from wfe_approvals.webhook_mapping import hook_of
from wfe_approvals.webhooks.inbound import Inbound, check_mapping
from wfe_approvals.webhooks.outbound import needed
from wfe_approvals.webhooks.signing import check_secret, fresh_key

MOST_INPUTS = 100

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", re.ASCII)


async def create_hook(inbound: Inbound, caller: Caller, request: pb.CreateHookRequest) -> webhook_pb2.Hook:
    """Make a hook that starts or signals runs on the caller's behalf. Answers 201, with the secret.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound: The caller's owner has no such template.
        ResourceExhausted: The owner has too many.
        StateConflict: NO_SEAL_KEY.
    """
    faults = Violations()
    template_id, scheme, secret = None, "standard", ""
    if request.signal:
        _signal(faults, request)
    else:
        with faults.collect():
            template_id = parse_uuid(request.template_id, "template_id")
        if request.HasField("version") and request.version < 1:
            faults.add("version", "must be at least 1")
        if request.workflow:
            faults.add("workflow", "names the run of a signal, and there is no signal")
    with faults.collect():
        plain_text(request.name, "name", longest=NAME_CHARACTERS)
    with faults.collect():
        scheme = choice(request.scheme or "standard", "scheme", SCHEMES)
    with faults.collect():
        secret = _secret(request.secret, scheme)
    if request.filter.strip():
        with faults.collect():
            check_mapping(request.filter.strip(), "filter")
    if len(request.input) > MOST_INPUTS:
        faults.add("input", f"must be at most {MOST_INPUTS}, are {len(request.input)}")
    for name, source in list(request.input.items())[:MOST_INPUTS]:
        with faults.collect():
            check_mapping(source, f"input.{name[:NAME_CHARACTERS]}")
        if reserved_key_in({name: None}) is not None:
            faults.add(f"input.{name[:NAME_CHARACTERS]}", "is a key of the engine's own: call it something else")
    faults.raise_if_any()
    hook_id = uuid4()
    made = await inbound.hooks.create(
        Hook(
            id=hook_id,
            owner_id=caller.owner_id,
            name=request.name,
            scheme=scheme,
            template_id=template_id,
            version=request.version if request.HasField("version") else None,
            signal=request.signal,
            workflow=request.workflow.strip(),
            filter=request.filter.strip(),
            input=dict(request.input),
            secret=needed(inbound.sealer).seal(bound_to_hook(hook_id.bytes), secret.encode()),
            created_by=caller.principal_id,
            created_at=datetime.now(UTC),
        )
    )
    http_status(201)
    return hook_of(made, secret=secret)


def _signal(faults: Violations, request: pb.CreateHookRequest) -> None:
    if _NAME.fullmatch(request.signal) is None:
        faults.add("signal", "must be letters, digits and _ . -, beginning with a letter, at most 100 characters")
    if request.template_id or request.HasField("version"):
        faults.add("template_id", "is for a hook that starts runs; this one sends signals")
    if not request.workflow.strip():
        faults.add("workflow", "is required: CEL over body and headers that gives the id of the run")
    else:
        with faults.collect():
            check_mapping(request.workflow.strip(), "workflow")


def _secret(text: str, scheme: str) -> str:
    if scheme == "standard":
        return check_secret(text) if text else fresh_key("v1").secret
    if not text:
        return secrets.token_urlsafe(32)
    plain_text(text, "secret", longest=200)
    if len(text) < 16:
        raise InvalidInput("must be at least 16 characters", field="secret")
    return text
