"""The examples of the API guide are run as they stand, and there is one of every call."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from calls import CALLS
from wfe_stack.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "docs" / "api.md"
#: The interpreter of the tests first: others may be slow scripts around one.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
#: What a shell has before the examples: any failure ends it, and each call is noted.
PRELUDE = """set -euo pipefail
curl() { printf '%s\\n' "$@" >>"$NOTES"; printf '\\0' >>"$NOTES"; command curl --fail-with-body "$@"; echo; }
"""


@pytest.fixture(scope="session")
async def noted(stack):
    """Verb and path of every call the examples make, which all succeed."""
    # As `make run` has it: the data folder in the current one.
    folder = Path(tempfile.mkdtemp(prefix="wfe-docs-"))
    (folder / ".wfe").symlink_to(stack.settings.folder)
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    script = PRELUDE + "\n".join(blocks).replace("http://127.0.0.1:8080", stack.url)
    try:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            script,
            cwd=folder,
            env={"PATH": PATH, "NOTES": str(folder / "notes")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(120):
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()[-3_000:]
        calls = [entry.split("\n") for entry in (folder / "notes").read_text().split("\0") if entry.strip()]
    finally:
        shutil.rmtree(folder)
    return [_verb_and_path(words, stack.url) for words in calls]


def _verb_and_path(words, url):
    (target,) = [word for word in words if word.startswith(url)]
    verb = words[words.index("-X") + 1] if "-X" in words else "POST" if "-d" in words else "GET"
    return verb, target.removeprefix(url).partition("?")[0]


@pytest.mark.parametrize("method", sorted(CALLS))
async def test_every_call_has_an_example(noted, method):
    call = CALLS[method]
    pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", call.path))
    assert any(verb == call.verb and pattern.fullmatch(path) for verb, path in noted)


async def test_every_example_is_a_call(noted):
    own = {("GET", "/healthz"), ("GET", "/api/v1/openapi.json")}
    for verb, path in set(noted) - own:
        assert any(
            verb == call.verb and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", call.path), path) for call in CALLS.values()
        ), (verb, path)


async def shell(script: str, folder: Path) -> str:
    """What a script prints that succeeds."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script,
        cwd=folder,
        env={"PATH": PATH},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_the_five_minutes_of_the_readme(stack, sam, tmp_path):
    """What it says for a second terminal works, line by line."""
    (tmp_path / ".wfe").symlink_to(stack.settings.folder)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    _, commands, rest = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    first, *others = commands.strip().splitlines()
    run = re.search(r"run ([0-9a-f-]{36}) ", await shell(first, tmp_path))[1]

    async def gate():
        return (await sam.get(f"/api/v1/workflows/{run}"))["approvals"]

    await wait_for(gate)
    said = [await shell(line.replace("RUN", run), tmp_path) for line in others]
    assert run in said[0]
    assert "run.completed" in said[-1]
    started = json.loads(await shell(rest.replace("http://127.0.0.1:8080", stack.url), tmp_path))
    assert (started["status"], started["template"]["name"]) == ("pending", "hello")
