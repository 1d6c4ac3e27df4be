"""`wfe up` and `wfe demo`: the whole engine on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from wfe_stack.faults import StackFault
from wfe_stack.ports import LOOPBACK
from wfe_stack.rest import Rest
from wfe_stack.settings import GRPC_PORT, REST_PORT, StackSettings, sample_folder

from wfe_cli import show
from wfe_cli.commands import command, target
from wfe_cli.faults import Failed
from wfe_cli.job import STATES, approve_at_once, ask, curl, main_job

if TYPE_CHECKING:
    from wfe_stack.stack import Stack


#: What the samples call.
SAMPLE_HANDLERS = "wfe_executor.demo"


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""

    @command(app, "up")
    async def up(
        home: Annotated[Path | None, typer.Option(help="Data folder; .wfe by default, or WFE_HOME.")] = None,
        host: Annotated[
            str, typer.Option(envvar="WFE_GATEWAY_REST_HOST", help="Address the gateway listens on.")
        ] = LOOPBACK,
        port: Annotated[
            int,
            typer.Option(
                envvar="WFE_GATEWAY_REST_PORT", min=0, max=65_535, help="Port of the REST API; 0 for a free one."
            ),
        ] = REST_PORT,
        grpc_port: Annotated[
            int,
            typer.Option(
                envvar="WFE_GATEWAY_GRPC_PORT", min=0, max=65_535, help="Port of the gRPC API; 0 for a free one."
            ),
        ] = GRPC_PORT,
        schedulers: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
        approvals: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
        executors: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
        handlers: Annotated[
            str,
            typer.Option(
                envvar="WFE_HANDLERS",
                help="Modules with step handlers, with commas; those of the samples come with them.",
            ),
        ] = "",
        samples: Annotated[
            Path | None,
            typer.Option(exists=True, file_okay=False, help="Folder of templates to publish; examples by default."),
        ] = None,
        log_level: Annotated[str, typer.Option(envvar="WFE_LOG_LEVEL", help="Of the services.")] = "info",
        job: Annotated[bool, typer.Option("--job", help="Do the main job before your eyes first.")] = False,
    ) -> None:
        """Start the whole engine and stay until Ctrl-C.

        WFE_DATABASE_URL and WFE_NATS_URL use servers that exist already.
        """
        settings = StackSettings(
            folder=home or target().home,
            host=host,
            rest_port=port,
            grpc_port=grpc_port,
            schedulers=schedulers,
            approvals=approvals,
            executors=executors,
            database_url=os.environ.get("WFE_DATABASE_URL") or None,
            nats_url=os.environ.get("WFE_NATS_URL") or None,
            handlers=_modules(handlers),
            executor_environment={"PYTHONPATH": _import_path()},
            samples=samples or sample_folder(),
            log_level=log_level,
            metrics=True,
        )
        stack = _stack(settings)
        await _with_signals(_serve(stack, job=job), stack)

    @command(app, "demo")
    async def demo() -> None:
        """Do the main job without questions, on an engine of its own that is gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="wfe-demo-"))
        settings = StackSettings(folder=folder / "wfe", samples=sample_folder(), restarts=False)
        stack = _stack(settings)
        try:
            await _with_signals(_demonstrate(stack), stack)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _modules(handlers: str) -> tuple[str, ...]:
    """The modules, with that of the samples, which are published whatever else there is."""
    named = [name.strip() for name in handlers.split(",") if name.strip()]
    return tuple(dict.fromkeys((SAMPLE_HANDLERS, *named)))


def _import_path() -> str:
    """PYTHONPATH with the current folder first, so that a module in it can be named."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(Path.cwd()), *([given] if given else [])])


def _stack(settings: StackSettings) -> Stack:
    # Imported here: it brings the database's drivers, which the other commands do without.
    from wfe_stack.stack import Stack

    return Stack(settings, say=_say)


async def _serve(stack: Stack, *, job: bool) -> None:
    out = show.console()
    out.print(f"Starting the engine in {stack.settings.folder} …")
    async with stack:
        url, keys = stack.url, stack.keys
        out.print(f"Ready in {stack.started_seconds:.1f} s.\n")
        out.print(f"  REST  {url}\n  gRPC  {stack.grpc}")
        out.print(f"  stats {stack.metrics['scheduler']} (the others' in stack.json)")
        out.print(f"  data  {stack.settings.folder} (keys in keys.json, logs in logs)")
        if job:
            async with Rest(url, keys["sam"]) as sam, Rest(url, keys["ada"]) as ada:
                run, _ = await main_job(sam, ada, ask(url, ada, keys["ada"]))
            out.print(f"\nThe run {run['status']}. Try:\n")
            print(curl(url, keys["sam"], f"/api/v1/workflows/{run['id']}"))
        else:
            out.print("\nTry:\n")
            print(curl(url, keys["sam"], "/api/v1/workflows"))
        out.print("\nThe engine goes on until Ctrl-C.")
        sys.stdout.flush()
        fault = await stack.lost()
        raise StackFault(f"stopping: {fault}")


async def _demonstrate(stack: Stack) -> None:
    out = show.console()
    async with stack:
        out.print(f"The engine is ready in {stack.started_seconds:.1f} s.")
        url, keys = stack.url, stack.keys
        async with Rest(url, keys["sam"]) as sam, Rest(url, keys["ada"]) as ada:
            _, states = await main_job(sam, ada, approve_at_once)
    out.print(f"\nSeen: {', '.join(states)}")
    if missing := [state for state in STATES if state not in states]:
        raise Failed(f"never seen: {', '.join(missing)}")


async def _with_signals(work: Coroutine[Any, Any, None], stack: Stack) -> None:
    """Do the work; the first signal ends it in order, a second one kills what is left.

    Raises:
        asyncio.CancelledError: A signal came before the engine was ready.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    came: list[signal.Signals] = []

    def stop(what: signal.Signals) -> None:
        came.append(what)
        if len(came) == 1:
            sys.stderr.write("\nStopping …\n")
            task.cancel()
        else:
            stack.kill_all()

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for what in wanted:
        loop.add_signal_handler(what, stop, what)
    try:
        await task
    except asyncio.CancelledError:
        if not came or not stack.started_seconds:
            raise
    finally:
        for what in wanted:
            loop.remove_signal_handler(what)


def _say(line: str) -> None:
    sys.stderr.write(f"wfe: {line}\n")
    sys.stderr.flush()
