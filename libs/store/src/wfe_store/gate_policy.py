"""Who may decide a gate. No I/O; the same rules stand in SQL in `wfe_store.gates`."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

#: Roles of which a decider needs one, whatever the gate says; a key narrowed to others cannot decide.
DECIDER_ROLES = frozenset({"approver", "admin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Who wants to decide.

    Attributes:
        principal_id: The person, not the key: many keys of one person are one decider.
        name: The principal's name.
        kind: person, agent or service.
        roles: What it may do, narrowed to the key's.
        groups: Names of its groups now; a decision does not look at the groups of when the gate opened.
    """

    principal_id: UUID
    name: str
    kind: str
    roles: frozenset[str]
    groups: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A gate's policy. With all lists empty every approver of the owner may decide.

    Attributes:
        users: Names of principals.
        groups: Names of groups.
        roles: Roles.
        exclude_starter: Whether the one who started the run may not decide, even if named.
    """

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    exclude_starter: bool = True

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The policy of its JSON text.

        Its values may come from expressions, so nothing is taken for granted: a single name stands for a list
            of
        one, what is no name matches nobody, and only `false` lets the starter decide.
        """
        plain: Any = json.loads(text)
        if not isinstance(plain, dict):
            return cls(users=("",))
        return cls(
            users=_names(plain.get("users")),
            groups=_names(plain.get("groups")),
            roles=_names(plain.get("roles")),
            exclude_starter=plain.get("exclude_starter", True) is not False,
        )

    def admits(self, decider: Decider) -> bool:
        """Whether the decider is among the approvers; that he started the run is not looked at."""
        if not decider.roles & DECIDER_ROLES:
            return False
        if decider.name in self.users:
            return True
        # A service account decides only where it is named: whoever writes a bot's name means it.
        if decider.kind == "service":
            return False
        if not (self.users or self.groups or self.roles):
            return True
        return _meet(self.groups, decider.groups) or _meet(self.roles, decider.roles)


def _meet(named: Collection[str], held: frozenset[str]) -> bool:
    return any(name in held for name in named)


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    # A name that is no string must not become an empty list, which would admit every approver.
    return tuple(str(name) for name in value) if isinstance(value, list) else (str(value),)
