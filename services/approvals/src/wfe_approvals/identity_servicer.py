"""IdentityService: one use case per method."""

from __future__ import annotations

from wfe.api.v1 import identity_service_pb2 as pb
from wfe.api.v1 import identity_service_pb2_grpc
from wfe_servicekit.calls import current_caller
from wfe_store.identity import Identity
from wfe_store.keys import Keys

from wfe_approvals.usecases.add_group_member import add_group_member
from wfe_approvals.usecases.create_group import create_group
from wfe_approvals.usecases.create_key import create_key
from wfe_approvals.usecases.create_principal import create_principal
from wfe_approvals.usecases.get_self import get_self
from wfe_approvals.usecases.list_groups import list_groups
from wfe_approvals.usecases.list_keys import list_keys
from wfe_approvals.usecases.list_principals import list_principals
from wfe_approvals.usecases.remove_group_member import remove_group_member
from wfe_approvals.usecases.revoke_key import revoke_key
from wfe_approvals.usecases.rotate_key import rotate_key

# Methods are named by the proto.
# ruff: noqa: N802


class IdentityServicer(identity_service_pb2_grpc.IdentityServiceServicer):  # type: ignore[misc]
    """Who may call: principals, groups and keys of the caller's owner."""

    def __init__(self, identity: Identity, keys: Keys) -> None:
        self._identity = identity
        self._keys = keys

    async def GetSelf(self, _request: pb.GetSelfRequest, _context: object) -> pb.Principal:
        """Who the caller is."""
        return await get_self(self._identity, current_caller())

    async def CreatePrincipal(self, request: pb.CreatePrincipalRequest, _context: object) -> pb.Principal:
        """Add a principal."""
        return await create_principal(self._identity, current_caller(), request)

    async def ListPrincipals(self, request: pb.ListPrincipalsRequest, _context: object) -> pb.ListPrincipalsResponse:
        """The owner's principals."""
        return await list_principals(self._identity, current_caller(), request)

    async def CreateGroup(self, request: pb.CreateGroupRequest, _context: object) -> pb.Group:
        """Add a group."""
        return await create_group(self._identity, current_caller(), request)

    async def ListGroups(self, request: pb.ListGroupsRequest, _context: object) -> pb.ListGroupsResponse:
        """The owner's groups."""
        return await list_groups(self._identity, current_caller(), request)

    async def AddGroupMember(self, request: pb.AddGroupMemberRequest, _context: object) -> pb.Group:
        """Put a principal into a group."""
        return await add_group_member(self._identity, current_caller(), request)

    async def RemoveGroupMember(self, request: pb.RemoveGroupMemberRequest, _context: object) -> pb.Group:
        """Take a principal out of a group."""
        return await remove_group_member(self._identity, current_caller(), request)

    async def CreateKey(self, request: pb.CreateKeyRequest, _context: object) -> pb.Key:
        """Make a key."""
        return await create_key(self._identity, self._keys, current_caller(), request)

    async def ListKeys(self, request: pb.ListKeysRequest, _context: object) -> pb.ListKeysResponse:
        """The owner's keys."""
        return await list_keys(self._keys, current_caller(), request)

    async def RotateKey(self, request: pb.RotateKeyRequest, _context: object) -> pb.Key:
        """Make a key's successor."""
        return await rotate_key(self._keys, current_caller(), request)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, _context: object) -> pb.Key:
        """Revoke a key."""
        return await revoke_key(self._keys, current_caller(), request)
