"""Who may call what: every call of the API as every role, over REST and gRPC; without a row here, nobody may."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
import uuid

import grpc
import pytest
import wfe.api.v1
from wfe_stack.rest import Refused, Rest

ROLES = ("viewer", "operator", "author", "approver", "admin", "breakglass")
READ = "viewer operator author admin"
OPERATE = "operator admin"
WRITE = "author admin"
SEE_GATES = "viewer operator approver admin breakglass"
DECIDE = "approver admin"
ANYBODY = " ".join(ROLES)
#: Roles of which one suffices, by method; None for a call that needs no key.
MAY: dict[str, str | None] = {
    **dict.fromkeys(("ListWorkflows", "GetWorkflow", "ListEvents", "WatchWorkflow", "ListSnapshots"), READ),
    **dict.fromkeys(
        ("StartWorkflow", "PauseWorkflow", "ResumeWorkflow", "CancelWorkflow", "TerminateWorkflow"), OPERATE
    ),
    **dict.fromkeys(("RetryWorkflow", "RollbackWorkflow", "ForkWorkflow", "CreateSnapshot"), OPERATE),
    **dict.fromkeys(("SignalWorkflow", "RerunWorkflow", "BulkWorkflows"), OPERATE),
    **dict.fromkeys(("RetryStep", "CompleteStep", "SkipStep", "PutSecret", "DeleteSecret"), "admin"),
    **dict.fromkeys(("ListSchedules", "GetSchedule"), READ),
    **dict.fromkeys(("CreateSchedule", "UpdateSchedule", "PauseSchedule", "ResumeSchedule"), OPERATE),
    **dict.fromkeys(("DeleteSchedule", "TriggerSchedule"), OPERATE),
    "CompareTemplateVersions": READ,
    "ListSecrets": "operator author admin",
    **dict.fromkeys(("ExplainWorkflow", "ExplainQueue", "ExplainSchedule"), READ),
    "ExplainWebhook": OPERATE,
    "GetBlob": f"author {SEE_GATES}",
    **dict.fromkeys(("ListTemplates", "GetTemplate", "ListTemplateVersions", "GetTemplateVersion"), READ),
    **dict.fromkeys(("CreateTemplate", "UpdateTemplate", "PublishTemplate", "DeprecateTemplate"), WRITE),
    "ValidateTemplate": ANYBODY,
    **dict.fromkeys(("ListApprovals", "GetApproval", "CountApprovals", "PreviewApproval"), SEE_GATES),
    **dict.fromkeys(("ApproveWorkflow", "RejectWorkflow", "DecideApproval", "DecideApprovals", "WithdrawVote"), DECIDE),
    **dict.fromkeys(("ClaimApproval", "ReleaseApproval", "DelegateApproval", "IssueLink"), DECIDE),
    **dict.fromkeys(("CreateDelegation", "ListDelegations", "RevokeDelegation"), DECIDE),
    **dict.fromkeys(("ExtendApproval", "RemindApproval"), "operator approver admin"),
    # No other role has it, that of an admin neither.
    "BypassApproval": "breakglass",
    "GetSelf": ANYBODY,
    **dict.fromkeys(("CreatePrincipal", "ListPrincipals", "CreateGroup", "ListGroups", "AddGroupMember"), "admin"),
    **dict.fromkeys(("RemoveGroupMember", "CreateKey", "ListKeys", "RotateKey", "RevokeKey"), "admin"),
    **dict.fromkeys(("CreateWebhook", "DeleteWebhook", "EnableWebhook", "DisableWebhook"), "admin"),
    "RotateWebhookSecret": "admin",
    **dict.fromkeys(("ListWebhooks", "GetWebhook", "PingWebhook"), OPERATE),
    **dict.fromkeys(("ListDeliveries", "GetDelivery", "RedeliverWebhook"), OPERATE),
    **dict.fromkeys(("CreateHook", "ListHooks", "GetHook", "DeleteHook"), OPERATE),
    "ReceiveHook": None,
    # Its token is its credential.
    **dict.fromkeys(("AnswerCallback", "GetLink", "DecideByLink", "ShowLink", "AnswerLink"), None),
    "GetReadiness": None,
}
MODULES = [importlib.import_module(f"wfe.api.v1.{each.name}") for each in pkgutil.iter_modules(wfe.api.v1.__path__)]
ALL = [
    method
    for module in MODULES
    if hasattr(module, "DESCRIPTOR")
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
METHODS = {method.name: method for method in ALL if method.name in MAY}


@pytest.fixture(scope="module")
async def role_keys(rest_as) -> dict[str, str | None]:
    """A key of a principal with one role, by role; besides one with none, a made-up one, and none."""
    root: Rest = rest_as("root")
    keys: dict[str, str | None] = {"nobody": None, "made up": "wfe_" + "0" * 40}
    for role in (*ROLES, ""):
        principal = await root.post(
            "/api/v1/principals", {"name": f"only-{role or 'nothing'}", "roles": [role] * bool(role)}
        )
        keys[role or "nothing"] = (await root.post("/api/v1/keys", {"principal_id": principal["id"]}))["secret"]
    return keys


#: Calls let in by a signature over their body alone: without one they are refused to everybody alike.
SIGNED = {"ReceiveHook"}


def expected(name: str, who: str) -> int:
    """401, 403, or 0 for a call that gets further."""
    if name in SIGNED:
        return 401
    allowed = MAY[name]
    if allowed is None:
        return 0
    if who in ("nobody", "made up"):
        return 401
    return 0 if who in allowed.split() or (who == "nothing" and name == "GetSelf") else 403


def test_every_method_has_a_row():
    assert sorted(MAY) == sorted(method.name for method in ALL)


async def test_every_call_over_rest(stack, role_keys, rest_as):
    document = await rest_as("sam").get("/api/v1/openapi.json")
    routes = [
        (method.upper(), path, operation["operationId"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    routes = [route for route in routes if route[2] in set(METHODS) - {"GetReadiness"}]
    assert {name for _, _, name in routes} == set(METHODS) - {"GetReadiness"}
    wrong = {}
    for who, key in role_keys.items():
        async with Rest(stack.url, key) as caller:

            async def answered(method: str, path: str, caller: Rest = caller) -> int:
                place = re.sub(r"\{[^}]+\}", lambda _: str(uuid.uuid4()), re.sub(r"\{(version|no)\}", "1", path))
                try:
                    await asyncio.wait_for(caller.call(method, place, body=None if method == "GET" else {}), 10)
                except Refused as refusal:
                    return refusal.status
                return 200

            got = await asyncio.gather(*(answered(method, path) for method, path, _ in routes))
        for (_, path, name), status in zip(routes, got, strict=True):
            found = status if status in (401, 403) else 0
            if found != expected(name, who) or status >= 500:
                wrong[who, name, path] = status
    assert wrong == {}


async def test_every_call_over_grpc(stack, role_keys):
    wrong = {}
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        for who, key in role_keys.items():
            metadata = (("authorization", f"Bearer {key}"),) if key else ()

            async def answered(method, metadata=metadata) -> grpc.StatusCode:
                path = f"/{method.containing_service.full_name}/{method.name}"
                try:
                    if method.server_streaming:
                        await channel.unary_stream(path)(b"", metadata=metadata, timeout=10).read()
                    else:
                        await channel.unary_unary(path)(b"", metadata=metadata, timeout=10)
                except grpc.aio.AioRpcError as fault:
                    return fault.code()
                return grpc.StatusCode.OK

            got = await asyncio.gather(*(answered(method) for method in METHODS.values()))
            refusals = {grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.PERMISSION_DENIED: 403}
            for name, code in zip(METHODS, got, strict=True):
                if refusals.get(code, 0) != expected(name, who) or code in (
                    grpc.StatusCode.UNKNOWN,
                    grpc.StatusCode.INTERNAL,
                ):
                    wrong[who, name] = code
    assert wrong == {}
