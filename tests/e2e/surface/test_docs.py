"""The examples of the API guide are run as they stand, and there is one of every call."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from calls import CALLS

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "docs" / "api.md"
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
            env={"PATH": os.environ["PATH"], "NOTES": str(folder / "notes")},
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
