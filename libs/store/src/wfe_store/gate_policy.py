"""Who may decide a gate, and what a decision needs. No I/O; the inbox asks the same of `gates.who` in SQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

#: Roles of which a decider needs one, whatever the gate says; a key narrowed to others cannot decide.
DECIDER_ROLES = frozenset({"approver", "admin"})
#: Of a gate that says nothing else.
DEFAULT_EXCLUDE = ("run_starter",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Who wants to decide.

    Attributes:
        principal_id: The person, not the key: many keys of one person are one decider.
        name: The principal's name.
        kind: person, agent or service.
        roles: What it may do, narrowed to the key's.
        groups: Names of its groups now; a decision does not look at the groups of when the gate opened.
        acts_for: The person behind an agent or a service account; None for nobody, or not known.
    """

    principal_id: UUID
    name: str
    kind: str
    roles: frozenset[str]
    groups: frozenset[str]
    acts_for: UUID | None = None

    @property
    def behind(self) -> UUID:
        """Who counts: the person it acts for, or itself."""
        return self.acts_for or self.principal_id

    @property
    def tokens(self) -> list[str]:
        """What of `gates.who` means this one; empty for who decides nothing."""
        if not self.roles & DECIDER_ROLES:
            return []
        # A service account decides only where it is named: whoever writes a bot's name means it.
        if self.kind == "service":
            return [f"u:{self.name}"]
        return [
            "*",
            f"u:{self.name}",
            *(f"g:{g}" for g in sorted(self.groups)),
            *(f"r:{r}" for r in sorted(self.roles)),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """So many of these must approve. With all lists empty every approver of the owner is meant.

    Attributes:
        users, groups, roles: Names.
        count: Approvals it needs.
    """

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    count: int = 1

    def admits(self, decider: Decider) -> bool:
        """Whether the decider counts for it."""
        if not decider.roles & DECIDER_ROLES:
            return False
        if decider.name in self.users:
            return True
        if decider.kind == "service":
            return False
        if not (self.users or self.groups or self.roles):
            return True
        return _meet(self.groups, decider.groups) or _meet(self.roles, decider.roles)

    def tokens(self) -> tuple[str, ...]:
        """What stands for it in `gates.who`."""
        if not (self.users or self.groups or self.roles):
            return ("*",)
        named = [("u", self.users), ("g", self.groups), ("r", self.roles)]
        return tuple(f"{kind}:{name}" for kind, names in named for name in names if name and "\0" not in name)

    def grown(self, other: Block) -> Block:
        """With everybody of another block as well."""
        if not (self.users or self.groups or self.roles):
            return self
        return Block(
            users=self.users + other.users,
            groups=self.groups + other.groups,
            roles=self.roles + other.roles,
            count=self.count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A gate's policy.

    Attributes:
        blocks: All of them must be met, and nobody counts for two.
        exclude: Who may not decide though he is named: run_starter, previous_approvers, template_publisher.
        reject_count: Rejections that close it.
        reject_outcomes: What a rejection may mean: fail, branch:NAME, revise; the first unless one is named.
        reason_required: A rejection must say why.
        options: Codes of which a rejection names one; empty for none.
        max_rounds: Revisions it may ask for; 0 when it may not.
        form: schema, payload, editable, limits; empty without a form.
        escalate: In order: ("add" or "replace", who).
        delegation: eligible: a delegate must be an approver himself; anyone: he decides with the other's standing.
        bypass: Whether it can be bypassed at all.
    """

    blocks: tuple[Block, ...] = (Block(),)
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    reject_count: int = 1
    reject_outcomes: tuple[str, ...] = ("fail",)
    reason_required: bool = False
    options: tuple[str, ...] = ()
    max_rounds: int = 0
    form: dict[str, Any] = field(default_factory=dict, hash=False)
    escalate: tuple[tuple[str, Block], ...] = ()
    delegation: str = "eligible"
    bypass: bool = True

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The policy of its JSON text.

        Its values may come from expressions, so nothing is taken for granted: a single name stands for a list of
        one, what is no name matches nobody, and only `false` lets the starter decide.
        """
        return _parsed(text)

    @property
    def users(self) -> tuple[str, ...]:
        """Everybody named by name."""
        return _all(block.users for block in self.blocks)

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group named."""
        return _all(block.groups for block in self.blocks)

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role named."""
        return _all(block.roles for block in self.blocks)

    @property
    def exclude_starter(self) -> bool:
        """Whether the one who started the run may not decide, even if named."""
        return "run_starter" in self.exclude

    @property
    def need(self) -> int:
        """Approvals in all."""
        return sum(block.count for block in self.blocks)

    def at(self, level: int) -> tuple[Block, ...]:
        """The blocks after so many escalations."""
        blocks = self.blocks
        for how, who in self.escalate[:level]:
            if how == "add":
                blocks = tuple(block.grown(who) for block in blocks)
            else:
                blocks = tuple(
                    Block(users=who.users, groups=who.groups, roles=who.roles, count=block.count) for block in blocks
                )
        return blocks

    def who(self, level: int = 0) -> tuple[str, ...]:
        """`gates.who` after so many escalations."""
        return _all(block.tokens() for block in self.at(level))

    def admits(self, decider: Decider, level: int = 0) -> bool:
        """Whether the decider is among the approvers; what bars him otherwise is not looked at."""
        return any(block.admits(decider) for block in self.at(level))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Policy:
    plain: Any = json.loads(text)
    if not isinstance(plain, dict):
        return Policy(blocks=(Block(users=("",)),))
    if "blocks" not in plain:  # as gates had it before they had blocks
        exclude = () if plain.get("exclude_starter", True) is False else DEFAULT_EXCLUDE
        return Policy(blocks=(_block(plain),), exclude=exclude)
    reject = plain.get("reject") or {}
    return Policy(
        blocks=tuple(_block(block) for block in plain["blocks"]),
        exclude=tuple(plain.get("exclude", DEFAULT_EXCLUDE)),
        reject_count=int(reject.get("count", 1)),
        reject_outcomes=tuple(reject.get("outcomes") or ("fail",)),
        reason_required=reject.get("reason") == "required",
        options=tuple(reject.get("options") or ()),
        max_rounds=int((plain.get("revise") or {}).get("max_rounds", 0)),
        form=plain.get("form") or {},
        escalate=tuple(_level(step) for step in plain.get("escalate") or ()),
        delegation=str(plain.get("delegation") or "eligible"),
        bypass=plain.get("bypass", True) is not False,
    )  # fmt: skip


def _level(step: dict[str, Any]) -> tuple[str, Block]:
    how = "add" if "add" in step else "replace"
    return how, _block(step.get(how) or {})


def _block(plain: dict[str, Any]) -> Block:
    return Block(
        users=_names(plain.get("users")),
        groups=_names(plain.get("groups")),
        roles=_names(plain.get("roles")),
        count=int(plain.get("count", 1)),
    )


def _meet(named: Collection[str], held: frozenset[str]) -> bool:
    return any(name in held for name in named)


def _all(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for some in names for name in some))


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    # A name that is no string must not become an empty list, which would admit every approver.
    return tuple(str(name) for name in value) if isinstance(value, list) else (str(value),)
