"""Templates the tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
HANDLERS = frozenset({"echo", "summarise", "sleep", "flaky", "work"})
_FAULTY = yaml.safe_load((Path(__file__).parent / "faulty.yaml").read_text())
_WORK = yaml.safe_load((Path(__file__).parent / "faulty_work.yaml").read_text())
_BLOCKS = yaml.safe_load((Path(__file__).parent / "faulty_blocks.yaml").read_text())
BASE: str = _FAULTY["base"]


class Faulty(NamedTuple):
    """A faulty template, and its faults as (path, line, column, begin of the reason, begin of the mend)."""

    name: str
    source: str
    faults: list[Any]


def faulty(section: str) -> list[Faulty]:
    return [
        Faulty(name, case["source"] if "source" in case else BASE + case["adds"], case["faults"])
        for name, case in (_FAULTY[section] | _WORK.get(section, {}) | _BLOCKS.get(section, {})).items()
    ]


def name_of(case: Any) -> str:
    return str(case.name)


def step(text: str) -> str:
    """The base with one more step."""
    return f"{BASE}  - {{{text}}}\n"


def chain(count: int, distinct: int = 20) -> str:
    """So many steps in a row, each with a path, one of some other expressions, retry and timeout."""
    steps = [
        f'  - id: s{at}\n    call: {{handler: echo, input: {{n: "${{{{ steps.s{at - 1}.output.n }}}}",'
        f' sum: "${{{{ vars.n + {at % distinct} }}}}"}}}}\n    timeout: 30s\n    retry: {{max_attempts: 3}}\n'
        for at in range(1, count)
    ]
    return (
        "name: chain\nvariables: {n: {type: integer, default: 1}}\nsteps:\n"
        '  - {id: s0, call: {handler: echo, input: {n: "${{ vars.n }}"}}}\n' + "".join(steps)
    )
