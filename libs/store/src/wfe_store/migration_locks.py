"""Locks of several tables at once, for migrations of a store that is in use."""

from __future__ import annotations


def take(*tables: str) -> str:
    """A statement that locks tables for the rest of the transaction.

    Services lock the tables of a statement in the order of its text or of its plan, so no order is free of deadlocks.
    Therefore what cannot be had soon is let go of, all of it, and tried again; Postgres looks for deadlocks only after
    a second (deadlock_timeout), so nobody else is made to fail.
    """
    names = ", ".join(tables)
    return f"""
DO $$ BEGIN
    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '100ms', true);
            LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', '0', true);
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.05);
        END;
    END LOOP;
END $$
"""
