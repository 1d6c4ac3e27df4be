"""What callers are told when a command does not come about."""

from __future__ import annotations

from uuid import UUID

from wfe_engine import commands as cmd
from wfe_engine.errors import NotFound, Unavailable, WfeError
from wfe_store.commit import Lost
from wfe_store.pool import unavailable

from wfe_scheduler.entries import Item


def missing(run: UUID) -> NotFound:
    """No such run for this caller."""
    return NotFound(f"there is no workflow {run}", workflow_id=run)


def told(fault: Exception, item: Item) -> Exception:
    """What a fault of the store means to whoever waits for an item."""
    if isinstance(fault, WfeError) or (isinstance(fault, Lost) and isinstance(item.command, cmd.Start)):
        return fault
    if isinstance(fault, Lost):
        return Unavailable("others decide on this run at the same time; try again", reason="CONTENDED")
    return unavailable(fault)
