"""Looking at all gates now and then, for metrics. Every replica shows the same; take the maximum over them."""

from __future__ import annotations

from wfe_servicekit.telemetry.metrics import Gauge
from wfe_store import watching
from wfe_store.pool import Database

GATES_OPEN = Gauge("wfe_gates_open", "Gates nobody has decided yet.")
GATE_OLDEST = Gauge("wfe_gate_oldest_seconds", "How long the oldest open gate has been open.")
GATES_UNTOLD = Gauge("wfe_gates_untold", "Decisions of gates that no scheduler has taken in yet.")
GATE_UNTOLD_OLDEST = Gauge("wfe_gate_untold_oldest_seconds", "How long the oldest of those decisions has waited.")
STORE_CONNECTIONS = Gauge(
    "wfe_approvals_store_connections", "Connections of this process's pool to the run store: used or idle.", ("state",)
)


class Survey:
    """Sets the gauges above."""

    def __init__(self, database: Database) -> None:
        self._database = database
        STORE_CONNECTIONS.read(lambda: {("used",): database.use().used, ("idle",): database.use().idle})

    async def run_once(self) -> None:
        """One look.

        Raises:
            Unavailable: The store cannot be read.
        """
        async with self._database.connection() as connection:
            found = await watching.open_gates(connection)
        GATES_OPEN.set(found.count)
        GATE_OLDEST.set(found.oldest)
        GATES_UNTOLD.set(found.untold)
        GATE_UNTOLD_OLDEST.set(found.oldest_untold)
