"""The command line against the real engine: what scripts read, and what a terminal shows."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner
from wfe_cli.main import app
from wfe_stack.waiting import wait_for

WFE = str(Path(sys.executable).with_name("wfe"))
SOURCE = """
name: {name}
variables: {{text: {{type: string, default: a}}, count: {{type: integer, default: 1}}}}
steps:
  - {{id: review, approval: {{title: "Go on?", approvers: {{roles: [approver]}}}}}}
  - {{id: work, call: {{handler: echo, input: {{text: "${{{{ vars.text }}}}"}}}}}}
"""
LONG = """
name: {name}
steps:
  - {{id: work, call: {{handler: work, input: {{seconds: 60, pieces: 60}}}}}}
"""


class Cli:
    """`wfe` with the data folder of the engine, in an environment with nothing else."""

    def __init__(self, stack, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "WFE_HOME": str(stack.settings.folder)}

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, and errors."""
        # In a thread, with a loop of its own: a process for each command would take half a second.
        ended = await asyncio.to_thread(CliRunner().invoke, app, words, env=self.environment)
        return ended.exit_code, ended.stdout, ended.stderr

    async def json(self, *words: str):
        """What a command that succeeds prints for scripts."""
        code, out, errors = await self.run(*words, "--json")
        assert (code, errors) == (0, ""), words
        return json.loads(out)


@pytest.fixture
def cli(stack, tmp_path):
    return Cli(stack, tmp_path)


async def test_the_main_job_and_every_action_in_json(cli, tmp_path):
    name = f"cli{uuid.uuid4().hex}"
    (tmp_path / "t.yaml").write_text(SOURCE.format(name=name))
    (tmp_path / "input.yaml").write_text("text: b\ncount: 2\n")
    assert await cli.json("templates", "validate", str(tmp_path / "t.yaml")) == {"faults": []}
    version = await cli.json("templates", "publish", str(tmp_path / "t.yaml"))
    assert (version["name"], version["version"]) == (name, 1)
    assert name in [each["name"] for each in (await cli.json("templates", "list"))["templates"]]

    words = ["--input-file", str(tmp_path / "input.yaml"), "-i", "count=3", "-l", "team=a", "--key", name]
    run = (started := await cli.json("runs", "start", name, *words))["id"]
    assert (started["status"], started["input"]) == ("pending", {"text": "b", "count": 3})
    assert (await cli.json("runs", "start", name, *words))["id"] == run
    assert [each["id"] for each in (await cli.json("runs", "list", "--template", name))["workflows"]] == [run]

    async def gate():
        return next(iter((await cli.json("approvals", "list", "--run", run))["approvals"]), None)

    opened = await wait_for(gate)
    assert (await cli.json("runs", "pause", run, "-r", "lunch"))["status"] == "paused"
    assert (await cli.json("runs", "resume", run))["status"] == "waiting_approval"
    snapshot = (await cli.json("runs", "snapshot", run, "--name", "here"))["id"]
    assert snapshot in [each["id"] for each in (await cli.json("runs", "snapshots", run))["snapshots"]]
    assert (await cli.json("approvals", "approve", run, "-c", "fine"))["id"] == opened["id"]
    code, out, _ = await cli.run("runs", "watch", run, "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, events[-1]["type"]) == (0, "run.completed")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))

    assert (await cli.json("runs", "rollback", run, "--to", snapshot))["status"] == "waiting_approval"
    assert (await cli.json("approvals", "reject", run))["status"] == "rejected"
    assert (await cli.json("runs", "get", run))["reason"] == "approval_rejected"
    assert (await cli.json("runs", "retry", run))["status"] == "waiting_approval"
    assert (await cli.json("runs", "cancel", run))["status"] == "cancelled"
    fork = await cli.json("runs", "fork", run, "--at", snapshot)
    assert fork["forked_from"] == {"workflow_id": run, "snapshot_id": snapshot}
    assert (await cli.json("runs", "terminate", fork["id"]))["status"] == "cancelled"
    assert (await cli.json("keys", "create", "--for", "sam", "--name", name))["secret"].startswith("wfe_")

    # For people the same is a table.
    code, out, _ = await cli.run("runs", "list", "--template", name)
    assert code == 0
    assert re.search(rf"^RUN +TEMPLATE +STATUS .*\n(.*\n)*{run} +{name} v1 +cancelled", out)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["runs", "get", "nope"], 3, r"wfe: refused: INVALID_INPUT: id: is not a UUID like .*"),
        (["runs", "start", "no-such"], 2, r"wfe: there is no template 'no-such'; see `wfe templates list`"),
        (["runs", "start", "hello", "-i", "nome=x"], 3, r"wfe: refused: .*input.nome: .*did you mean name\?"),
        (["--key", "bad", "runs", "list"], 3, r"wfe: refused: UNAUTHENTICATED: .*"),
        (["approvals", "approve", str(uuid.UUID(int=7))], 3, r"wfe: refused: NOT_FOUND: .*"),
    ],
)
async def test_what_goes_wrong_is_one_line(cli, words, code, says):
    ended, out, errors = await cli.run(*words)
    assert (ended, out) == (code, "")
    (line,) = errors.splitlines()
    assert re.fullmatch(says, line)


async def test_a_terminal_shows_how_far_a_step_is(cli, tmp_path):
    name = f"cli{uuid.uuid4().hex}"
    (tmp_path / "t.yaml").write_text(LONG.format(name=name))
    await cli.json("templates", "publish", str(tmp_path / "t.yaml"))
    outer, inner = pty.openpty()
    os.set_blocking(outer, False)
    process = await asyncio.create_subprocess_exec(
        WFE,
        "runs",
        "start",
        name,
        "--watch",
        cwd=tmp_path,
        env=cli.environment,
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    shown = ""

    def shows(pattern):
        nonlocal shown
        with suppress(BlockingIOError, OSError):
            while data := os.read(outer, 65536):
                shown += data.decode(errors="replace")
        return re.search(pattern, shown)

    try:
        # Nothing happens to the run meanwhile: only heartbeats tell.
        await wait_for(lambda: shows(r'"done": 2'), what="progress")
        run = shows(r"run (?:\x1b\[0m)?([0-9a-f-]{36})")[1]
        await cli.json("runs", "cancel", run)
        async with asyncio.timeout(30):
            assert await process.wait() == 1
        assert shows(r"wfe: the run was cancelled\r\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(outer)
