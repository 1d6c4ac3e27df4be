"""The configuration of the stack's own NATS server: one user per role, with the subjects the role needs."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from wfe_bus.connection import Refused, probe
from wfe_bus.subjects import PERMISSIONS

from wfe_stack.faults import StackFault
from wfe_stack.folder import write_private
from wfe_stack.ports import LOOPBACK

#: Seconds a server may take to accept a connection.
REACH_SECONDS = 5.0
_PORT = 4222


def new_passwords() -> dict[str, str]:
    """A password for every role; new ones with every start, nobody has to remember them."""
    return {role: secrets.token_urlsafe(24) for role in PERMISSIONS}


def write_config(path: Path, port: int, passwords: dict[str, str]) -> None:
    """Write the server's configuration file, readable by its owner alone. JSON is valid in it."""
    users = [
        {
            "user": role,
            "password": passwords[role],
            "permissions": {
                "publish": {"allow": subjects["publish"]},
                "subscribe": {"allow": subjects["subscribe"]},
            },
        }
        for role, subjects in PERMISSIONS.items()
    ]
    config = {
        "host": LOOPBACK,
        "port": port,
        "max_payload": 1 << 20,
        "lame_duck_duration": "30s",
        "authorization": {"users": users, "timeout": 5},
    }
    write_private(path, json.dumps(config, indent=2) + "\n")


async def reach(urls: str) -> None:
    """Look whether one of somebody else's servers lets us in.

    Args:
        urls: One URL or several with commas between.

    Raises:
        StackFault: None does; without a bus nothing would get ready, and nothing would say why.
    """
    why = ""
    for url in urls.split(","):
        try:
            parts = urlsplit(url.strip())
            _, writer = await asyncio.wait_for(
                asyncio.open_connection(parts.hostname, parts.port or _PORT), REACH_SECONDS
            )
            writer.close()
            await probe(url.strip(), REACH_SECONDS)
        except (OSError, ValueError) as fault:  # a timeout is an OSError
            why = getattr(fault, "strerror", None) or str(fault) or "no answer"
        except Refused as fault:
            why = str(fault)
        else:
            return
    raise StackFault(f"the bus cannot be reached: {why}; look at WFE_NATS_URL")


def program(name: str) -> str:
    """Path of a program installed beside this Python, or else on PATH.

    Raises:
        StackFault: There is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise StackFault(f"{name} is not installed; run tools/setup.sh")
    return found
