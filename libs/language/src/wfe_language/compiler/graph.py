"""The order between the steps of a block: `needs`, cycles, and who runs surely before whom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """Order of a block.

    Attributes:
        needs: By position: positions that must have ended before.
        dependents: The other way round.
        before: By position: bit set of every position that has surely ended before.
        cycle: Positions of one cycle, each needing the next, the first repeated at the end; empty without.
    """

    needs: tuple[tuple[int, ...], ...]
    dependents: tuple[tuple[int, ...], ...]
    before: tuple[int, ...]
    cycle: tuple[int, ...]


def order(needs: list[tuple[int, ...]]) -> Order:
    """The order a list of needs makes."""
    count = len(needs)
    dependents: list[list[int]] = [[] for _ in range(count)]
    for at, wanted in enumerate(needs):
        for need in wanted:
            dependents[need].append(at)
    waiting = [len(wanted) for wanted in needs]
    before = [0] * count
    ready = [at for at in range(count) if not waiting[at]]
    for at in ready:  # grows while it is walked
        for dependent in dependents[at]:
            before[dependent] |= before[at] | (1 << at)
            waiting[dependent] -= 1
            if not waiting[dependent]:
                ready.append(dependent)
    cycle = _cycle(needs, waiting) if len(ready) < count else ()
    return Order(tuple(needs), tuple(map(tuple, dependents)), tuple(before), cycle)


def _cycle(needs: list[tuple[int, ...]], waiting: list[int]) -> tuple[int, ...]:
    """Follows needs that never end until one comes again."""
    at = next(position for position, left in enumerate(waiting) if left)
    seen: dict[int, int] = {}
    trail: list[int] = []
    while at not in seen:
        seen[at] = len(trail)
        trail.append(at)
        at = next(need for need in needs[at] if waiting[need])
    return (*trail[seen[at] :], at)
