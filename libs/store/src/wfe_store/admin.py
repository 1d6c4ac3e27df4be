"""`wfe-admin`: what operators do to the run store. `wfe admin` is the same."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg

from wfe_store import retention, switches, watching

_SPAN = re.compile(r"(\d+)([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_RETENTION = "WFE_RETENTION"


def span(text: str) -> dt.timedelta:
    """A span like 90d, 12h or 30m."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no span; write e.g. 90d, 12h or 30m")
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})


def parser(prog: str = "wfe-admin") -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog=prog, description="Look after the run store of WFE_DATABASE_URL.")
    commands = made.add_subparsers(dest="command", required=True)
    partitions = commands.add_parser("partitions", help="list, make ahead or drop months").add_subparsers(
        dest="action", required=True
    )
    partitions.add_parser("list", help="months, their runs and sizes")
    make = partitions.add_parser("make", help="make this month's and those ahead; takes in rows of default partitions")
    make.add_argument("--ahead", type=int, default=3, help="months ahead (3)")
    _dropping(partitions.add_parser("drop", help="archive and drop months whose runs ended longer ago"), required=True)
    run = commands.add_parser("retention", help="all of it, as the maintenance job does").add_subparsers(
        dest="action", required=True
    )
    _dropping(
        run.add_parser("run", help=f"make months ahead, drop old ones if {_RETENTION} or --older-than says, ANALYZE"),
        required=False,
    )
    run.add_parser("show", help="every table, its size, and what makes its rows go")
    commands.add_parser("analyze", help="statistics of the partitioned tables")
    dispatch = commands.add_parser("dispatch", help="hold or release the handing out of steps").add_subparsers(
        dest="action", required=True
    )
    dispatch.add_parser("show", help="whether it is held")
    hold = dispatch.add_parser("hold", help="hand out no step any more; those that run go on")
    hold.add_argument("--reason", default="", help="for whoever asks why nothing moves")
    dispatch.add_parser("release", help="hand out steps again; clocks of waiting steps are later by the hold")
    commands.add_parser("queues", help="ready, leased and waiting steps, and executors, by queue")
    commands.add_parser("stuck", help="runs nothing can move any more; exit status 1 when there is one")
    return made


def _dropping(to: argparse.ArgumentParser, *, required: bool) -> None:
    default = os.environ.get(_RETENTION)
    to.add_argument(
        "--older-than",
        type=span,
        default=span(default) if default else None,
        required=required and not default,
        metavar="SPAN",
        help=f"retention from a run's end, e.g. 400d; {_RETENTION} when absent",
    )
    to.add_argument("--archive", type=Path, metavar="FOLDER", help="write what is dropped there first, as NDJSON")
    to.add_argument("--without-archive", action="store_true", help="drop without an archive")


def main(argv: Sequence[str] | None = None, prog: str = "wfe-admin") -> int:
    """Run the command line; the exit status: 0 done, 1 failed, 2 wrong usage."""
    words = parser(prog).parse_args(argv)
    url = os.environ.get("WFE_DATABASE_URL", "")
    if not url:
        sys.stderr.write(f"{prog}: set WFE_DATABASE_URL, e.g. postgresql://user@host/wfe\n")
        return 2
    if getattr(words, "older_than", None) and not words.archive and not words.without_archive:
        sys.stderr.write(f"{prog}: name --archive FOLDER, or say --without-archive\n")
        return 2
    try:
        return asyncio.run(_run(url, words))
    except (psycopg.Error, OSError) as fault:
        sys.stderr.write(f"{prog}: {str(fault).strip()}\n")
        return 1


async def _run(url: str, words: argparse.Namespace) -> int:
    async with retention.connect(url) as connection:
        if words.command == "partitions" and words.action == "list":
            for month in await retention.months(connection):
                _say(f"{month.month:%Y-%m}  {max(0, month.runs):>10} runs (estimate)  {month.bytes / 1e6:>10.1f} MB")
        elif words.command == "partitions" and words.action == "make":
            made = await retention.make_partitions(connection, ahead=words.ahead)
            _say(f"made {', '.join(made)}" if made else "all there")
        elif words.command == "partitions":
            await _drop(connection, words)
        elif words.command == "retention" and words.action == "show":
            for one in await retention.kept(connection):
                _say(f"{one.table:<20} {one.bytes / 1e6:>10.1f} MB  {one.rule}")
        elif words.command == "retention":
            made = await retention.make_partitions(connection)
            _say(f"made {', '.join(made)}" if made else "partitions: all there")
            if words.older_than is not None:
                await _drop(connection, words)
                gone = await retention.drop_leftovers(connection, older_than=words.older_than)
                _say(f"forgotten: {', '.join(f'{count} {table}' for table, count in gone.items())}")
            await retention.analyze(connection)
            _say("analyzed")
        elif words.command == "analyze":
            _say(f"analyzed {', '.join(await retention.analyze(connection))}")
        elif words.command == "dispatch":
            await _dispatch(connection, words)
        elif words.command == "queues":
            await _queues(connection)
        elif words.command == "stuck":
            found = await watching.stuck_runs(connection)
            for run in found:
                _say(str(run))
            return 1 if found else 0
    return 0


async def _drop(connection: psycopg.AsyncConnection[tuple[object, ...]], words: argparse.Namespace) -> None:
    found = await retention.drop_old(connection, older_than=words.older_than, archive=words.archive)
    for one in found:
        if one.kept:
            _say(f"{one.month:%Y-%m} kept: {one.kept}")
        else:
            _say(f"{one.month:%Y-%m} dropped: {', '.join(f'{count} {table}' for table, count in one.rows.items())}")
            for path in one.archives:
                _say(f"  archived in {path}")
    if not found:
        _say("no month is old enough")


async def _dispatch(connection: psycopg.AsyncConnection[tuple[object, ...]], words: argparse.Namespace) -> None:
    if words.action == "hold":
        who = os.environ.get("USER") or "operator"
        fresh = await switches.hold_dispatch(connection, who, words.reason)
        _say("held; schedulers follow within a second or two" if fresh else "held already")
    elif words.action == "release":
        held = await switches.release_dispatch(connection)
        _say("was not held" if held is None else f"released, after {held:.0f} s")
    else:
        found = await switches.dispatch_held(connection)
        _say(
            "not held"
            if found is None
            else f"held since {found.set_at:%Y-%m-%d %H:%M:%S} by {found.set_by}: {found.reason}"
        )


async def _queues(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    executors = await watching.executors(connection)
    found = {queue.name: queue for queue in await watching.queues(connection)}
    for name in sorted(set(found) | set(executors)):
        queue = found.get(name) or watching.Queue(name, 0, 0, 0, 0, 0.0)
        taking, stopping = executors.get(name, (0, 0))
        _say(
            f"{name}: {queue.ready} ready (oldest {queue.oldest_ready:.1f} s), {queue.leased} leased,"
            f" {queue.backing_off} backing off, {queue.held} paused; {taking} executors, {stopping} stopping"
        )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def command() -> int:
    """`wfe-admin`."""
    return main()
