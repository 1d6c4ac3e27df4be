"""Locks of several tables at once, for migrations of a store that is in use."""

from __future__ import annotations


def take(*tables: str) -> str:
    """A statement that locks tables for the rest of the transaction, or fails at once with lock_not_available.

    Services lock the tables of a statement in the order of its text or of its plan, so no order is free of deadlocks.
    Therefore what cannot be had soon is let go of, all of it, and `migrate` tries again; Postgres looks for deadlocks
    only after a second (deadlock_timeout), so nobody else is made to fail.
    """
    return f"""
DO $$ BEGIN
    PERFORM set_config('lock_timeout', '100ms', true);
    LOCK TABLE {", ".join(tables)} IN ACCESS EXCLUSIVE MODE;
END $$
"""
