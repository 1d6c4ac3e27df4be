"""The gates of the store: read, decided, worked on, and moved by time.

A decision is one transaction that locks the run's row first and then the gate's, the scheduler's order, and
raises the run's version: a scheduler that is just withdrawing the gate loses or wins, never both. Whatever leaves
the gate open locks the gate's row alone. Every change is one UPDATE that names the version it stands on.
"""

from __future__ import annotations

from wfe_store.gate import STATUSES, Decision, Gate
from wfe_store.gate_acts import GateActs
from wfe_store.gate_rows import Asked
from wfe_store.gate_time import GateTime
from wfe_store.gate_votes import Ballot, Decided, Edit

__all__ = ["STATUSES", "Asked", "Ballot", "Decided", "Decision", "Edit", "Gate", "Gates"]


class Gates(GateActs, GateTime):
    """The gates of the store."""
