"""Every NATS subject, in one table.

| subject | who publishes | who listens | answer |
|---|---|---|---|
| `wfe.claim` | executor | one scheduler (queue group) | - |
| `wfe.report` | executor | one scheduler (queue group) | Reported |
| `wfe.report.<scheduler>` | executor | that scheduler | Reported |
| `wfe.heartbeat` | executor | one scheduler (queue group) | HeartbeatAnswer |
| `wfe.fetch` | executor | one scheduler (queue group) | Chunk |
| `wfe.store` | executor | one scheduler (queue group) | PartStored |
| `wfe.unseal` | executor | one scheduler (queue group) | Unsealed |
| `wfe.x.<executor>.leases` | scheduler | that executor | - |
| `wfe.x.<executor>.stop` | scheduler | that executor | - |
| `wfe.s.ready` | scheduler | all schedulers | - |
| `wfe.s.gone` | scheduler | all schedulers | - |
| `wfe.s.run` | approvals | all schedulers; the first to decide wins | - |
| `wfe.s.start` | approvals | one scheduler (queue group) | Answered |
| `wfe.s.signal` | approvals | one scheduler (queue group) | Answered |
| `wfe.s.watching` | scheduler | all schedulers | - |
| `wfe.s.moved.<scheduler>` | scheduler | that scheduler | - |
| `wfe.s.template` | scheduler | all schedulers | - |
| `wfe.ping.<service>` | anybody | that service | `ok` |

Executors may publish only `wfe.claim`, `wfe.report*`, `wfe.heartbeat`, `wfe.fetch`, `wfe.store`, `wfe.unseal`
and listen only to `wfe.x.>` and their inbox; see `PERMISSIONS`.
"""

from __future__ import annotations

CLAIM = "wfe.claim"
REPORT = "wfe.report"
HEARTBEAT = "wfe.heartbeat"
FETCH = "wfe.fetch"
STORE = "wfe.store"
UNSEAL = "wfe.unseal"
READY = "wfe.s.ready"
GONE = "wfe.s.gone"
RUN = "wfe.s.run"
START = "wfe.s.start"
SIGNAL = "wfe.s.signal"
WATCHING = "wfe.s.watching"
TEMPLATE = "wfe.s.template"

#: Queue group of the schedulers.
SCHEDULERS = "schedulers"

#: NATS users: what each role may publish and listen to. Inboxes carry the role in their prefix.
PERMISSIONS: dict[str, dict[str, list[str]]] = {
    "scheduler": {"publish": ["wfe.>", "_INBOX.>"], "subscribe": ["wfe.>", "_INBOX.scheduler.>"]},
    "approvals": {
        "publish": ["wfe.s.run", "wfe.s.start", "wfe.s.signal", "wfe.ping.>", "_INBOX.>"],
        "subscribe": ["wfe.ping.approvals", "_INBOX.approvals.>"],
    },
    "executor": {
        "publish": [
            "wfe.claim",
            "wfe.report",
            "wfe.report.*",
            "wfe.heartbeat",
            "wfe.fetch",
            "wfe.store",
            "wfe.unseal",
        ],
        "subscribe": ["wfe.x.>", "_INBOX.executor.>"],
    },
}


def report_to(scheduler: str) -> str:
    """Reports for the scheduler that leased the steps."""
    return f"wfe.report.{scheduler}"


def leases_for(executor: str) -> str:
    """Leases for one executor."""
    return f"wfe.x.{executor}.leases"


def stop_for(executor: str) -> str:
    """Leases one executor must stop."""
    return f"wfe.x.{executor}.stop"


def moved_for(scheduler: str) -> str:
    """Runs with new events that one scheduler's clients watch."""
    return f"wfe.s.moved.{scheduler}"


def ping(service: str) -> str:
    """Whether any process of a service is there."""
    return f"wfe.ping.{service}"
