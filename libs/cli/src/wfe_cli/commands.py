"""How a command is run: who calls which server, and how it ends."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from wfe_stack.faults import StackFault
from wfe_stack.folder import key_of, read_address
from wfe_stack.rest import Refused, Rest, RestFault
from wfe_stack.settings import REST_PORT

from wfe_cli import faults
from wfe_cli.faults import Failed, UsageFault, refusal

P = ParamSpec("P")

#: Seconds calls that are safe to repeat are repeated: long enough for a restart, short enough for somebody waiting.
REPEAT_SECONDS = 5.0

#: Options many commands have.
AsPerson = Annotated[
    str | None,
    typer.Option("--as", metavar="PERSON", help="Whose key of keys.json to use: sam, ada or root."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]


@dataclass(frozen=True, slots=True)
class Target:
    """Which server, and where its keys are.

    Attributes:
        home: Data folder of the stack.
        url: Base URL, when one was named.
        key: API key, when one was named.
    """

    home: Path
    url: str | None
    key: str | None

    @property
    def named(self) -> bool:
        """Whether a server, or who calls it, was named."""
        return self.url is not None or self.key is not None

    def address(self) -> str:
        """The server: the one that was named, or else the one of the data folder, or the default one."""
        return self.url or str(read_address(self.home).get("url") or f"http://127.0.0.1:{REST_PORT}")

    def caller(self, person: str | None, default: str) -> Rest:
        """The server, called as a person.

        Args:
            person: Who was asked for; None to take the named key, or else the default person's.
            default: Who usually does this.

        Raises:
            StackFault: There is no key of that person.
        """
        named = self.key if person is None else None
        key = named or key_of(self.home / "keys.json", person or default)
        return Rest(self.address(), key, repeat_seconds=REPEAT_SECONDS)


_target: ContextVar[Target] = ContextVar("target")


def aim(found: Target) -> None:
    """Set the target of the present command."""
    _target.set(found)


def target() -> Target:
    """The target of the present command."""
    return _target.get()


def command(app: typer.Typer, name: str) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """Make an async function a command of an app; see `execute` for how it ends."""

    def register(function: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            code = execute(function(*args, **kwargs))
            if code:
                raise typer.Exit(code)

        app.command(name)(run)
        return run

    return register


def execute(work: Coroutine[Any, Any, None]) -> int:
    """Run a command's work, say in one line what went wrong, and return the exit code."""
    try:
        asyncio.run(work)
    except UsageFault as fault:
        return _say(str(fault), faults.USAGE)
    except Refused as fault:
        return _say(f"refused: {refusal(fault)}", faults.REFUSED)
    except Failed as fault:
        return _say(str(fault), faults.FAILED)
    except (RestFault, StackFault) as fault:
        return _say(str(fault), faults.FAILED)
    except BrokenPipeError:
        # Whoever read the output has enough; nothing more may be written, also not at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return faults.OK
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 128 + signal.SIGINT
    return faults.OK


def _say(line: str, code: int) -> int:
    if line:
        sys.stderr.write(f"wfe: {line}\n")
    return code
