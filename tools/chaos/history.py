"""What the checker reads: what clients were told, what the witness saw, what the database has."""

from __future__ import annotations

from typing import Any

import msgspec

from tools.chaos.witness import Call


class Start(msgspec.Struct, kw_only=True):
    """A start a client asked for.

    Attributes:
        key: Its Idempotency-Key.
        shape: Of the run.
        fails: The run is to fail, by what the witness answers.
        run: UUID of the run, once the start was acknowledged.
        acked_at: When; Unix seconds.
        seen: Status the client last saw the run end with; empty when it never did.
        given: `output.n` the client saw.
        signal_acked: The signal it waits for was acknowledged.
        cancel_asked: A cancel was sent; its answer may be lost.
        cancel_acked: A cancel was acknowledged.
    """

    key: str
    shape: str
    fails: bool = False
    run: str = ""
    acked_at: float = 0.0
    seen: str = ""
    given: int | None = None
    signal_acked: bool = False
    cancel_asked: bool = False
    cancel_acked: bool = False


class Decided(msgspec.Struct):
    """A decision of a gate that was acknowledged: approve or reject."""

    gate: str
    what: str
    who: str


class Run(msgspec.Struct, kw_only=True):
    """A row of runs; `key` is the Idempotency-Key it was started with, empty for a child."""

    id: str
    key: str
    template: str
    status: str
    reason: str
    seq: int
    state: str
    parent: str = ""
    parent_no: int = 0
    given: int | None = None


class Step(msgspec.Struct):
    """A row of steps."""

    run: str
    no: int
    path: str
    iteration: str
    visit: int
    kind: str
    status: str
    attempts: int
    max_attempts: int


class Event(msgspec.Struct):
    """A row of events; `at` in Unix seconds, `data` is JSON text."""

    run: str
    seq: int
    type: str
    at: float
    data: str

    @property
    def facts(self) -> dict[str, Any]:
        """The data as a value."""
        found: dict[str, Any] = msgspec.json.decode(self.data)
        return found


class Gate(msgspec.Struct):
    """A row of gates."""

    id: str
    run: str
    status: str
    outcome: str | None
    told: bool


class Fence(msgspec.Struct):
    """A step that was live at a moment, in the order of the moments."""

    run: str
    no: int
    fence: int
    executor: str


class History(msgspec.Struct, kw_only=True):
    """Everything that is known of a sitting.

    Attributes:
        starts: By clients.
        decided: Decisions that were acknowledged.
        calls: In the order the witness wrote them down.
        runs, steps, events, gates: Rows; steps by run and number, events by run and seq.
        fences: Samples of the dispatch rows while it went on.
        left: Rows that should be gone once every run ended, by table.
        idle_in_transaction: Connections of the services that stand in a transaction.
        connections: Of the services, at the end.
        most_connections: What their pools may have open.
    """

    starts: list[Start] = []
    decided: list[Decided] = []
    calls: list[Call] = []
    runs: list[Run] = []
    steps: list[Step] = []
    events: list[Event] = []
    gates: list[Gate] = []
    fences: list[Fence] = []
    left: dict[str, int] = {}
    idle_in_transaction: int = 0
    connections: int = 0
    most_connections: int = 0
