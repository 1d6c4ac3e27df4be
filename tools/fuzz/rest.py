"""Generated calls of every operation of the OpenAPI document, as everybody there is."""

from __future__ import annotations

import asyncio
import re

from wfe_stack.seed import seed
from wfe_stack.stack import Stack
from wfe_store.identity import SeedPrincipal

from tools.fuzz.install import HOME, SCHEMATHESIS

ROLES = ("viewer", "operator", "author", "approver", "admin", "breakglass")
#: Each of an owner of its own, so that none takes away what another works with.
PEOPLE = {role: (role,) for role in ROLES} | {"nothing": (), "all": ROLES}
#: What may take away the very key it is called with: only in a pass of its own.
KEYS = ("--exclude-operation-id", "RevokeKey", "--exclude-operation-id", "RotateKey")
_SECONDS = 20
_COUNT = re.compile(r"(\d[\d,]*) generated")


async def identities(stack: Stack) -> dict[str, str | None]:
    """Keys by name, new ones where they were revoked; nobody has none."""
    found: dict[str, str | None] = {"nobody": None}
    for name, roles in PEOPLE.items():
        person = SeedPrincipal(name, roles=roles)
        path = stack.settings.folder / f"fuzz-{name}.json"
        found |= await seed(stack.database_url, path, owner=f"fuzz-{name}", people=(person,))
    return found


async def schemathesis(
    stack: Stack, who: str, key: str | None, examples: int, seed_: int, *more: str
) -> tuple[int, bool, str]:
    """Calls of every operation of the document as one identity: how many, whether all was well, and what it said."""
    headers = ["-H", f"Authorization: Bearer {key}"] if key else []
    process = await asyncio.create_subprocess_exec(
        str(SCHEMATHESIS), "run", f"{stack.url}/api/v1/openapi.json", "--url", stack.url, *headers,
        "--checks", "not_a_server_error", "--max-examples", str(examples), "--seed", str(seed_), "--workers", "1",
        "--request-timeout", str(_SECONDS), "--continue-on-failure", "--no-color", "--warnings", "off",
        "--suppress-health-check", "all", "--generation-database", "none", *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=HOME,
    )  # fmt: skip
    out, _ = await process.communicate()
    text = out.decode(errors="replace")
    (HOME / f"schemathesis-{who}.log").write_text(text)
    counts = [int(found.replace(",", "")) for found in _COUNT.findall(text)]
    return sum(counts), process.returncode == 0, text
