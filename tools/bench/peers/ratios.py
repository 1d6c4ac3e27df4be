"""How far this engine is ahead of the best peer, from the lines of one sitting."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bench.workloads import PEER

#: What is compared: the field, and whether more of it is better.
MEASURES = {
    "W1": (("p50_ms", False), ("p99_ms", False)),
    "W2": (("p50_ms", False), ("p99_ms", False)),
    "W3": (("steps_per_s", True), ("cpu_ms_per_step", False)),
    "W3x2000": (("steps_per_s", True), ("cpu_ms_per_step", False)),
    "W4": (("steps_per_s", True),),
    "W5": (("starts_per_s", True), ("cpu_ms_per_step", False)),
    "W5-grpc": (("starts_per_s", True),),
    "W7": (("runs_per_s", True), ("park_s", False)),
}
#: Compared with the peers' workload of another name, for want of one of the same.
AS = {"W5-grpc": "W5"}


def medians(lines: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], float]:
    """Median of every measure, by workload, field and peer."""
    found: dict[tuple[str, str, str], float] = {}
    for workload, measures in MEASURES.items():
        for measure, _ in measures:
            for peer in {line["peer"] for line in lines}:
                wanted = (peer, workload if peer == PEER else AS.get(workload, workload))
                values = [line[measure] for line in lines if (line["peer"], line["workload"]) == wanted]
                if values and all(values):
                    found[workload, measure, peer] = statistics.median(values)
    return found


def ratios(lines: Sequence[dict[str, Any]]) -> str:
    """A table of the medians and their ratios."""
    found = medians(lines)
    rows = ["| workload | measure | wfe | best peer | ratio |", "|---|---|---|---|---|"]
    for workload, measures in MEASURES.items():
        for measure, more in measures:
            own = found.get((workload, measure, PEER))
            peers = {key[2]: value for key, value in found.items() if key[:2] == (workload, measure) and key[2] != PEER}
            if own is None or not peers:
                continue
            best = (max if more else min)(peers, key=lambda peer: peers[peer])
            rows.append(f"| {workload} | {measure} | {own:g} | {best} {peers[best]:g} | {own / peers[best]:.2f}× |")
    return "\n".join(rows) + "\n"


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
