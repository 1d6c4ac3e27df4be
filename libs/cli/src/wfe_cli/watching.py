"""Shows a run live, from its events."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from wfe_stack.lazily import Lazily
from wfe_stack.rest import ENDED, Rest, RestFault

from wfe_cli.show import console, event_line, run_view

if TYPE_CHECKING:
    from rich import live as rich_live
else:
    rich_live = Lazily("rich.live")

Run = dict[str, Any]
#: Seconds between looks at what no event tells of: how far a step is.
REFRESH_SECONDS = 1.0


def ending(run: Run) -> str:
    """How a run ended, as the end of a sentence."""
    said = "was cancelled" if run["status"] == "cancelled" else str(run["status"])
    return said if run.get("reason") in (None, "", run["status"]) else f"{said}: {run['reason']}"


async def watch(
    rest: Rest,
    run_id: str,
    *,
    after: int = 0,
    as_json: bool = False,
    stop: Callable[[Run], bool] | None = None,
    seen: Callable[[Run], None] | None = None,
) -> Run:
    """Show a run until it has ended, and return it.

    On a terminal the steps are a table that keeps up with them; elsewhere every event is a line.

    Args:
        rest: Somebody who may see the run.
        run_id: The run.
        after: Seq of the last event that was shown before.
        as_json: Print every event as one line of JSON, and nothing else.
        stop: Says of each state of the run whether to stop watching there.
        seen: Told each state of the run as it comes.
    """
    path = f"/api/v1/workflows/{run_id}"
    if as_json:
        async for event in rest.watch(run_id, after):
            sys.stdout.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")
            sys.stdout.flush()
        ended: Run = await rest.get(path)
        return ended
    run: Run = await rest.get(path)
    out = console()
    live = rich_live.Live(run_view(run), console=out, refresh_per_second=10) if sys.stdout.isatty() else None
    refreshing = None
    if live is not None:
        live.start()
        refreshing = asyncio.create_task(_refresh(rest, path, live))
    try:
        # Closed by hand: a generator left in the middle keeps its connection.
        async with aclosing(rest.watch(run_id, after)) as events:
            async for event in events:
                if live is None:
                    out.print(event_line(event))
                run = await rest.get(path)
                if live is not None:
                    live.update(run_view(run))
                if seen is not None:
                    seen(run)
                caught_up = run["events_total"] <= event["seq"]
                if caught_up and (run["status"] in ENDED or (stop is not None and stop(run))):
                    break
    finally:
        if refreshing is not None:
            refreshing.cancel()
            await asyncio.wait([refreshing])
        if live is not None:
            live.update(run_view(run))
            live.stop()
    if live is None and run["status"] in ENDED:
        out.print(run_view(run))
    return run


async def _refresh(rest: Rest, path: str, live: rich_live.Live) -> None:
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        with suppress(RestFault):
            live.update(run_view(await rest.get(path)))
