"""From the store's values to the public messages."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as identity_pb
from wfe_servicekit.checks import timestamp
from wfe_store.identity import Group, Principal
from wfe_store.keys import Key


def principal_of(principal: Principal) -> identity_pb.Principal:
    """A principal."""
    return identity_pb.Principal(
        id=str(principal.id),
        name=principal.name,
        kind=principal.kind,
        roles=principal.roles,
        groups=principal.groups,
        subject=principal.subject or "",
        owner=principal.owner,
        created_at=timestamp(principal.created_at),
        acts_for=str(principal.acts_for or ""),
    )


def group_of(group: Group) -> identity_pb.Group:
    """A group with its members."""
    return identity_pb.Group(
        id=str(group.id),
        name=group.name,
        members=[identity_pb.GroupMember(id=str(member.id), name=member.name) for member in group.members],
    )


def key_of(key: Key, *, secret: str = "") -> identity_pb.Key:
    """A key; with its whole text in the one answer that made it."""
    return identity_pb.Key(
        id=key.id,
        name=key.name,
        principal_id=str(key.principal_id),
        roles=key.roles or (),
        secret=secret,
        created_at=timestamp(key.created_at),
        expires_at=timestamp(key.expires_at),
        revoked_at=timestamp(key.revoked_at),
        last_used_at=timestamp(key.last_used_at),
        replaces=key.replaces or "",
    )
