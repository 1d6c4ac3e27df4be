"""Tokens of an OpenID Connect issuer through the gateway: whom they let in, as whom, and whom they keep out."""

from __future__ import annotations

import asyncio
import time
import uuid

import grpc
import pytest
from e2e_issuer import OWNER, Issuer
from e2e_runs import decide, path_of, refused, until
from wfe.api.v1 import identity_service_pb2 as pb
from wfe.api.v1 import identity_service_pb2_grpc
from wfe_stack.rest import Rest

GATE = """
name: e2e-token-gate
steps:
  - {id: gate, approval: {title: "Go on?", approvers: {groups: [token-editors]}}}
"""
#: What is wrong with a token: how it is made.
WRONG = {
    "expired": lambda issuer, now: issuer.token("tess", iat=now - 600, exp=now - 1),
    "not yet valid": lambda issuer, now: issuer.token("tess", nbf=now + 60),
    "issued in the future": lambda issuer, now: issuer.token("tess", iat=now + 60),
    "for another audience": lambda issuer, now: issuer.token("tess", aud="somebody-else"),
    "without audience": lambda issuer, now: issuer.token("tess", aud=None),
    "of another issuer": lambda issuer, now: issuer.token("tess", iss="https://issuer.example"),
    "without subject": lambda issuer, now: issuer.token(""),
    "without end": lambda issuer, now: issuer.token("tess", exp=None),
    "valid for too long": lambda issuer, now: issuer.token("tess", exp=now + 30 * 86_400),
    "unsigned": lambda issuer, now: issuer.unsigned("tess"),
    "signed by another key": lambda issuer, now: issuer.token("tess", forged=True),
    "of an unknown key": lambda issuer, now: issuer.token("tess", header={"kid": "second"}),
    "that brings its own key": lambda issuer, now: issuer.token("tess", header={"jku": f"{issuer.url}/keys"}),
    "cut off": lambda issuer, now: issuer.token("tess")[:-3],
    "no token": lambda issuer, now: "abc.def.ghi",
}

#: A call by the address it is made at: of each service past the gateway, and through it.
DOORS = {
    ("scheduler", "/wfe.api.v1.WorkflowService/ListWorkflows"),
    ("scheduler", "/wfe.api.v1.TemplateService/ListTemplates"),
    ("approvals", "/wfe.api.v1.ApprovalService/ListApprovals"),
    ("approvals", "/wfe.api.v1.IdentityService/GetSelf"),
    ("gateway", "/wfe.api.v1.WorkflowService/ListWorkflows"),
    ("gateway", "/wfe.api.v1.IdentityService/GetSelf"),
}


async def codes(stack, token: str | None, **headers: str) -> dict[tuple[str, str], grpc.StatusCode]:
    """What each door answers."""
    found = {}
    metadata = [*headers.items(), *([("authorization", f"Bearer {token}")] if token else [])]
    for part, method in DOORS:
        address = stack.grpc if part == "gateway" else stack.service(part)
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(method)(b"", metadata=metadata, timeout=20)
            found[part, method] = await call.code()
    return found


async def test_claims_become_a_principal_with_roles_and_groups(stack, issuer: Issuer, root: Rest):
    token = issuer.token("tess", roles=("wf-operator", "unheard-of"), groups=("token-editors", "staff"))
    async with Rest(stack.url, token) as tess:
        me = await tess.get("/api/v1/self")
        assert (me["name"], me["owner"], me["subject"]) == ("tess", OWNER, f"{issuer.url}|tess")
        assert (me["roles"], me["groups"]) == (["operator"], ["staff", "token-editors"])
        # A role is what the token says now, and nothing more.
        assert (await refused(tess.get("/api/v1/principals"))).status == 403
    async with Rest(stack.url, issuer.token("tess", roles=("wf-viewer",))) as again:
        other = await again.get("/api/v1/self")
        assert (other["id"], other["roles"], other["groups"]) == (me["id"], ["viewer"], [])
    async with Rest(stack.url, issuer.token("tess")) as bare:
        assert (await refused(bare.get("/api/v1/workflows"))).status == 403
    assert me["id"] in [each["id"] for each in (await root.get("/api/v1/principals", limit=200))["principals"]]


async def test_the_main_job_with_tokens(stack, issuer: Issuer, ada: Rest, publish):
    template = await publish(GATE)
    starter = Rest(stack.url, issuer.token("tom", roles=("wf-operator", "wf-approver"), groups=("token-editors",)))
    decider = Rest(stack.url, issuer.token("tina", roles=("wf-approver", "wf-viewer"), groups=("token-editors",)))
    outsider = Rest(stack.url, issuer.token("otto", roles=("wf-approver",), groups=("others",)))
    async with starter, decider, outsider:
        run = await starter.start({"template_id": template, "input": {}})
        waiting = await until(starter, run["id"], "waiting_approval")
        for caller, reason in ((starter, "SELF_APPROVAL"), (outsider, "NOT_AN_APPROVER"), (ada, "NOT_AN_APPROVER")):
            refusal = await refused(decide(caller, waiting, "approve"))
            assert (refusal.status, refusal.reason) == (403, reason)
        assert [
            each["id"]
            for each in (await decider.get("/api/v1/approvals", mine=True, workflow_id=run["id"]))["approvals"]
        ] == [waiting["approvals"][0]["id"]]
        decided = await decide(decider, waiting, "approve")
        done = await until(decider, run["id"], "completed")
        assert decided["decided_by"] == (await decider.get("/api/v1/self"))["id"]
        assert done["created_by"] == (await starter.get("/api/v1/self"))["id"]
        assert done["events"][0]["actor"] == f"principal:{done['created_by']}"


@pytest.mark.parametrize("wrong", WRONG)
async def test_tokens_that_let_nobody_in(stack, issuer: Issuer, wrong):
    token = WRONG[wrong](issuer, int(time.time()))
    async with Rest(stack.url, token) as caller:
        for place in ("/api/v1/self", "/api/v1/workflows", path_of(str(uuid.uuid4()))):
            refusal = await refused(caller.get(place))
            assert (refusal.status, refusal.body["code"], refusal.reason) == (401, 16, "UNAUTHENTICATED")
            # It does not say what was wrong.
            assert refusal.message == "credentials are missing or not valid"
    assert await codes(stack, token) == dict.fromkeys(DOORS, grpc.StatusCode.UNAUTHENTICATED)


async def test_a_service_believes_tokens_only(stack, issuer: Issuer):
    """At its own port, past the gateway, as at the gateway's."""
    token = issuer.token("tess", roles=("wf-viewer",))
    assert await codes(stack, token) == dict.fromkeys(DOORS, grpc.StatusCode.OK)
    me = {"x-principal": "tess", "x-owner": OWNER, "x-roles": "admin", "x-envoy-original-path": "/api/v1/self"}
    assert await codes(stack, None, **me) == dict.fromkeys(DOORS, grpc.StatusCode.UNAUTHENTICATED)


async def test_a_token_ends_when_it_says(stack, issuer: Issuer):
    ends = int(time.time()) + 2
    async with Rest(stack.url, issuer.token("tess", roles=("wf-viewer",), exp=ends)) as caller:
        while time.time() < ends - 0.2:
            assert (await caller.get("/api/v1/workflows", limit=1))["limit"] == 1
        await asyncio.sleep(ends - time.time() + 0.02)
        assert (await refused(caller.get("/api/v1/workflows"))).status == 401
        assert (await refused(caller.get("/api/v1/self"))).status == 401


async def test_the_same_over_grpc(stack, issuer: Issuer):
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        stub = identity_service_pb2_grpc.IdentityServiceStub(channel)
        token = issuer.token("tess", roles=("wf-operator",), groups=("staff",))
        me = await stub.GetSelf(pb.GetSelfRequest(), metadata=(("authorization", f"Bearer {token}"),))
    assert (me.name, list(me.roles), list(me.groups)) == ("tess", ["operator"], ["staff"])
