"""Looking at all gates and webhooks now and then, for metrics. Every replica shows the same; take their maximum."""

from __future__ import annotations

import time

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


OUTBOX_OLDEST = Gauge(
    "wfe_webhook_outbox_oldest_seconds", "How long ago the oldest event happened that no delivery has been made of yet."
)
DUE = Gauge("wfe_webhook_deliveries_due", "Deliveries that could be sent at once, counted up to 10,000.")
DUE_OLDEST = Gauge("wfe_webhook_due_oldest_seconds", "How long the longest of them has been due.")
WEBHOOKS = Gauge(
    "wfe_webhooks",
    "Webhooks by state: enabled, failing (still told), paused (its receiver asked to be left alone) or disabled.",
    ("state",),
)


class Survey:
    """Sets the gauges above."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next = 0.0
        STORE_CONNECTIONS.read(lambda: {("used",): database.use().used, ("idle",): database.use().idle})

    async def run_once(self) -> None:
        """One look.

        Raises:
            Unavailable: The store cannot be read.
        """
        began = time.monotonic()
        if began < self._next:
            return
        async with self._database.connection() as connection:
            found = await watching.open_gates(connection)
            told = await watching.told(connection)
        # A look at a million gates takes a while: 2 % of one connection at most.
        self._next = began + 50 * (time.monotonic() - began)
        GATES_OPEN.set(found.count)
        GATE_OLDEST.set(found.oldest)
        GATES_UNTOLD.set(found.untold)
        GATE_UNTOLD_OLDEST.set(found.oldest_untold)
        OUTBOX_OLDEST.set(told.outbox_oldest)
        DUE.set(told.due)
        DUE_OLDEST.set(told.due_oldest)
        WEBHOOKS.replace({(state,): count for state, count in told.webhooks.items()})
