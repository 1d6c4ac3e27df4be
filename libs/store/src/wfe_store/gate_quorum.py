"""Counting votes. No I/O.

Everybody counts once, for one block, however many he is in: the votes are matched to the blocks so that as many
places as possible are taken (Kuhn's algorithm; gates are small).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from wfe_store.gate_policy import Block, Decider

#: What a vote makes of the gate.
CLOSED_AS = {"approve": "approved", "reject": "rejected", "revise": "revise"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What somebody said at a gate, and what he was when he said it.

    Attributes:
        by: The voter: his name, roles and groups of that moment; of the one he stands for, when `behalf_of` is set.
        voter: Principal that voted.
        voter_name: His name.
        behalf_of: Principal whose standing it counts with; None for the voter's own.
        vote: approve, reject or revise.
        branch: Of a rejection that does not fail.
        digest: What he saw.
    """

    by: Decider
    voter: UUID
    voter_name: str
    behalf_of: UUID | None
    behalf_name: str
    vote: str
    branch: str
    comment: str
    reason_code: str
    digest: str
    via: str
    at: datetime

    @property
    def person(self) -> UUID:
        """Who counts: nobody does twice, neither with a delegate nor with an agent."""
        return self.by.behind


def taken(blocks: Sequence[Block], people: Iterable[Decider]) -> list[int]:
    """How many places of each block are taken at best."""
    seats = [at for at, block in enumerate(blocks) for _ in range(block.count)]
    holder: dict[int, int] = {}
    everybody = list(people)

    def seat(person: int, tried: set[int]) -> bool:
        for number, at in enumerate(seats):
            if number in tried or not blocks[at].admits(everybody[person]):
                continue
            tried.add(number)
            if number not in holder or seat(holder[number], tried):
                holder[number] = person
                return True
        return False

    for person in range(len(everybody)):
        if len(holder) == len(seats):
            break
        seat(person, set())
    return [sum(1 for number in holder if seats[number] == at) for at in range(len(blocks))]


def met(blocks: Sequence[Block], have: Sequence[int]) -> bool:
    """Whether every block has what it needs."""
    return all(count >= block.count for block, count in zip(blocks, have, strict=True))


def approvals(votes: Iterable[Vote], digest: str) -> list[Decider]:
    """Those who approve just this, each person once."""
    found = {vote.person: vote.by for vote in votes if vote.vote == "approve" and vote.digest == digest}
    return list(found.values())


def rejections(votes: Iterable[Vote]) -> int:
    """How many people reject it."""
    return len({vote.person for vote in votes if vote.vote == "reject"})


def reachable(blocks: Sequence[Block], votes: Sequence[Vote], digest: str, people: Iterable[Decider]) -> bool:
    """Whether enough could still approve, when everybody who has not rejected it does."""
    against = {vote.person for vote in votes if vote.vote == "reject"}
    said = {vote.person: vote.by for vote in votes if vote.vote == "approve" and vote.digest == digest}
    others = [person for person in people if person.behind not in against and person.behind not in said]
    return met(blocks, taken(blocks, [*said.values(), *others]))
