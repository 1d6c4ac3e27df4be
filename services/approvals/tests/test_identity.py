"""Principals, groups and keys over gRPC: roles, scopes, the life of a key."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import grpc
import pytest
from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.auth import authenticator as authentication
from wfe_servicekit.testing import bearer, refused

CODE = grpc.StatusCode
#: What Envoy adds to a call that came as REST.
REST = ("x-envoy-original-path", "/api/v1/")


async def works(world: Any, secret: str) -> bool:
    """Whether a key is accepted."""
    try:
        await world.identity.GetSelf(pb.GetSelfRequest(), metadata=bearer(secret))
    except grpc.aio.AioRpcError as fault:
        if fault.code() != CODE.UNAUTHENTICATED:
            raise
        return False
    return True


async def test_the_caller_learns_who_he_is(world: Any) -> None:
    me = await world.identity.GetSelf(pb.GetSelfRequest(), metadata=await world.as_("ada"))
    assert (me.id, me.name, me.kind, me.owner) == (str(world.people["acme", "ada"]), "ada", "person", "acme")
    assert (list(me.roles), list(me.groups)) == (["approver"], ["editors"])


async def test_a_narrowed_key_says_what_is_left(world: Any) -> None:
    root = await world.as_("root")
    made = await world.identity.CreateKey(
        pb.CreateKeyRequest(principal_id=str(world.people["acme", "starter"]), roles=["operator"]), metadata=root
    )
    me = await world.identity.GetSelf(pb.GetSelfRequest(), metadata=bearer(made.secret))
    assert (me.name, list(me.roles)) == ("starter", ["operator"])


async def test_all_but_self_is_for_admins(world: Any) -> None:
    ada = await world.as_("ada")
    stub, no = world.identity, str(uuid.uuid4())
    for call in (
        stub.CreatePrincipal(pb.CreatePrincipalRequest(name="eve"), metadata=ada),
        stub.ListPrincipals(pb.ListPrincipalsRequest(), metadata=ada),
        stub.CreateGroup(pb.CreateGroupRequest(name="legal"), metadata=ada),
        stub.ListGroups(pb.ListGroupsRequest(), metadata=ada),
        stub.AddGroupMember(pb.AddGroupMemberRequest(id=no, principal_id=no), metadata=ada),
        stub.RemoveGroupMember(pb.RemoveGroupMemberRequest(id=no, principal_id=no), metadata=ada),
        stub.CreateKey(pb.CreateKeyRequest(), metadata=ada),
        stub.ListKeys(pb.ListKeysRequest(), metadata=ada),
        stub.RotateKey(pb.RotateKeyRequest(id="abcdefgh"), metadata=ada),
        stub.RevokeKey(pb.RevokeKeyRequest(id="abcdefgh"), metadata=ada),
    ):
        assert (await refused(call)).code == CODE.PERMISSION_DENIED


async def test_principals_are_added_and_listed(world: Any) -> None:
    root = await world.as_("root")
    call = world.identity.CreatePrincipal(
        pb.CreatePrincipalRequest(name="eve", roles=["admin", "viewer", "viewer"], subject="https://idp|7"),
        metadata=[*root, REST],
    )
    made = await call
    assert dict(await call.initial_metadata())["x-http-status"] == "201"
    assert (made.name, made.kind, list(made.roles), made.subject, made.owner) == (
        "eve", "person", ["viewer", "admin"], "https://idp|7", "acme"
    )  # fmt: skip
    page = await world.identity.ListPrincipals(pb.ListPrincipalsRequest(limit=2, offset=2), metadata=root)
    assert [p.name for p in page.principals] == ["bot", "eve"]
    assert (page.total, page.limit, page.offset) == (7, 2, 2)
    again = await refused(world.identity.CreatePrincipal(pb.CreatePrincipalRequest(name="eve"), metadata=root))
    assert (again.code, again.info.reason) == (CODE.ALREADY_EXISTS, "PRINCIPAL_NAME_TAKEN")


async def test_everything_wrong_is_named_at_once(world: Any) -> None:
    root = await world.as_("root")
    fields = {}
    for name, call in (
        (
            "principal",
            world.identity.CreatePrincipal(
                pb.CreatePrincipalRequest(name=" ", kind="robot", roles=["king"], subject="nobody"), metadata=root
            ),
        ),
        ("group", world.identity.CreateGroup(pb.CreateGroupRequest(name="a" * 101), metadata=root)),
        ("blank", world.identity.CreateGroup(pb.CreateGroupRequest(name="editors "), metadata=root)),
        (
            "member",
            world.identity.AddGroupMember(pb.AddGroupMemberRequest(id="1", principal_id="2"), metadata=root),
        ),
        (
            "key",
            world.identity.CreateKey(
                pb.CreateKeyRequest(principal_id="1", name="\n", roles=["king"], expires_in_seconds=-1),
                metadata=root,
            ),
        ),
        ("wide", world.identity.CreateKey(pb.CreateKeyRequest(roles=["approver"]), metadata=root)),
        (
            "rotate",
            world.identity.RotateKey(pb.RotateKeyRequest(id="no", overlap_seconds=604_801), metadata=root),
        ),
        ("revoke", world.identity.RevokeKey(pb.RevokeKeyRequest(id="wfe_abc"), metadata=root)),
        ("list", world.identity.ListKeys(pb.ListKeysRequest(principal_id="1", limit=-1), metadata=root)),
    ):
        fault = await refused(call)
        assert fault.code == CODE.INVALID_ARGUMENT, name
        fields[name] = [v.field for v in fault.details["BadRequest"].field_violations]
    assert fields == {
        "principal": ["name", "kind", "roles", "subject"],
        "group": ["name"],
        "blank": ["name"],
        "member": ["id", "principal_id"],
        "key": ["principal_id", "name", "roles", "expires_in_seconds"],
        "wide": ["roles"],
        "rotate": ["id", "overlap_seconds"],
        "revoke": ["id"],
        "list": ["principal_id", "limit"],
    }


async def test_groups_gain_and_lose_members(world: Any) -> None:
    root = await world.as_("root")
    group = await world.identity.CreateGroup(pb.CreateGroupRequest(name="legal"), metadata=root)
    bob = str(world.people["acme", "bob"])
    member = pb.AddGroupMemberRequest(id=group.id, principal_id=bob)
    for _ in range(2):
        grown = await world.identity.AddGroupMember(member, metadata=root)
        assert [(m.id, m.name) for m in grown.members] == [(bob, "bob")]
    page = await world.identity.ListGroups(pb.ListGroupsRequest(), metadata=root)
    assert [(g.name, len(g.members)) for g in page.groups] == [("editors", 1), ("legal", 1)]
    for _ in range(2):
        shrunk = await world.identity.RemoveGroupMember(
            pb.RemoveGroupMemberRequest(id=group.id, principal_id=bob), metadata=root
        )
        assert list(shrunk.members) == []


async def test_another_owners_things_are_missing_ones(world: Any) -> None:
    root, rival = await world.as_("root"), await world.as_("root", "rival")
    groups = (await world.identity.ListGroups(pb.ListGroupsRequest(), metadata=root)).groups
    bob = str(world.people["acme", "bob"])
    keys = await world.identity.ListKeys(pb.ListKeysRequest(), metadata=root)
    (key,) = [k for k in keys.keys if k.principal_id == str(world.people["acme", "root"])]
    for call in (
        world.identity.AddGroupMember(pb.AddGroupMemberRequest(id=groups[0].id, principal_id=bob), metadata=rival),
        world.identity.RemoveGroupMember(
            pb.RemoveGroupMemberRequest(id=groups[0].id, principal_id=bob), metadata=rival
        ),
        world.identity.CreateKey(pb.CreateKeyRequest(principal_id=bob), metadata=rival),
        world.identity.RotateKey(pb.RotateKeyRequest(id=key.id), metadata=rival),
        world.identity.RevokeKey(pb.RevokeKeyRequest(id=key.id), metadata=rival),
    ):
        assert (await refused(call)).code == CODE.NOT_FOUND
    listed = await world.identity.ListKeys(pb.ListKeysRequest(), metadata=rival)
    assert key.id not in [k.id for k in listed.keys]
    assert (await world.identity.GetSelf(pb.GetSelfRequest(), metadata=root)).name == "root"


async def test_a_key_works_until_it_is_rotated_out_or_revoked(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "CACHE_SECONDS", 0.0)
    world = await start()
    root = await world.as_("root")
    call = world.identity.CreateKey(
        pb.CreateKeyRequest(principal_id=str(world.people["acme", "ada"]), name="laptop", expires_in_seconds=3600),
        metadata=[*root, REST],
    )
    made = await call
    assert dict(await call.initial_metadata())["x-http-status"] == "201"
    assert made.secret.startswith(f"wfe_{made.id}_")
    assert made.HasField("expires_at")
    assert not made.HasField("last_used_at")

    assert await works(world, made.secret)
    successor = await world.identity.RotateKey(pb.RotateKeyRequest(id=made.id), metadata=root)
    assert (successor.replaces, successor.name) == (made.id, "laptop")
    assert await works(world, made.secret), "the old key goes on for the overlap"
    assert await works(world, successor.secret)
    last = await world.identity.RotateKey(pb.RotateKeyRequest(id=successor.id, overlap_seconds=0), metadata=root)
    async with asyncio.timeout(6):
        while await works(world, successor.secret):
            pass
    assert await works(world, last.secret)
    revoked = await world.identity.RevokeKey(pb.RevokeKeyRequest(id=last.id), metadata=root)
    assert revoked.HasField("revoked_at")
    assert not await works(world, last.secret)
    conflict = await refused(world.identity.RotateKey(pb.RotateKeyRequest(id=last.id), metadata=root))
    assert (conflict.code, conflict.info.reason) == (CODE.FAILED_PRECONDITION, "KEY_NOT_LIVE")

    listed = await world.identity.ListKeys(
        pb.ListKeysRequest(principal_id=str(world.people["acme", "ada"])), metadata=root
    )
    assert [key.id for key in listed.keys] == [last.id, successor.id, made.id]
    assert [key.secret for key in listed.keys] == ["", "", ""]
    assert all(key.HasField("last_used_at") for key in listed.keys)


async def test_a_revoked_key_stops_within_five_seconds(world: Any) -> None:
    root = await world.as_("root")
    made = await world.identity.CreateKey(pb.CreateKeyRequest(), metadata=root)
    await world.identity.GetSelf(pb.GetSelfRequest(), metadata=bearer(made.secret))
    await world.identity.RevokeKey(pb.RevokeKeyRequest(id=made.id), metadata=root)
    since = time.monotonic()
    while await works(world, made.secret):
        assert time.monotonic() - since < 5
