"""The picture of a sitting: `python -m tools.bench.peers.plot build/peers/results.jsonl docs/benchmarks.svg`."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.bench.peers.ratios import medians, read
from tools.bench.workloads import PEER

#: What is drawn: workload, field, title; all of them more is better.
BARS = (
    ("W3", "steps_per_s", "steps/s, 10-step chains, 100 in flight"),
    ("W4", "steps_per_s", "steps/s, fan-out of 100 and join"),
    ("W5", "starts_per_s", "starts/s, 64 in flight, over REST"),
    ("W5-grpc", "starts_per_s", "starts/s, 64 in flight, over gRPC"),
    ("W7", "runs_per_s", "parked runs/s, signalled and completed"),
)
_COLOURS = {PEER: "#2f6fdb", "restate": "#8a94a6", "dbos": "#c2c8d2"}
_WIDTH, _LEFT, _BAR, _GAP = 760, 300, 16, 14


def picture(path: Path) -> str:
    """SVG of the medians in a file of lines."""
    found = medians(read(path))
    peers = [peer for peer in _COLOURS if any(key[2] == peer for key in found)]
    parts, y = [], 34
    for at, peer in enumerate(peers):
        x = _LEFT + at * 110
        parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{_COLOURS[peer]}"/>')
        parts.append(f'<text x="{x + 18}" y="18">{peer}</text>')
    for workload, field, title in BARS:
        values = {peer: found.get((workload, field, peer)) for peer in peers}
        most = max((value for value in values.values() if value), default=0)
        if not most:
            continue
        middle = y + len(peers) * _BAR / 2 + 4
        parts.append(f'<text x="{_LEFT - 12}" y="{middle:g}" text-anchor="end">{workload}: {title}</text>')
        for peer, value in values.items():
            if value:
                width = round(value / most * (_WIDTH - _LEFT - 90), 1)
                box = f'x="{_LEFT}" y="{y}" width="{width}" height="{_BAR - 3}"'
                parts.append(f'<rect {box} fill="{_COLOURS[peer]}"/>')
                parts.append(f'<text x="{_LEFT + width + 6:g}" y="{y + 11}">{value:,.0f}</text>')
            y += _BAR
        y += _GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" font-family="sans-serif"'
    background = f'<rect width="{_WIDTH}" height="{y}" fill="white"/>'
    return f'{head} font-size="11" fill="#222">\n' + "\n".join([background, *parts]) + "\n</svg>\n"


def main() -> int:
    """Read the first file, write the second."""
    lines, picture_file = map(Path, sys.argv[1:3])
    picture_file.write_text(picture(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
