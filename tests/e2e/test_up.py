"""`wfe up` and `wfe demo` as somebody at a shell has them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from wfe_stack.postgres import create_database, with_database
from wfe_stack.waiting import wait_for

WFE = str(Path(sys.executable).with_name("wfe"))
SAMPLES = str(Path(__file__).resolve().parents[2] / "examples")


class Shell:
    """A folder, and commands in it, in an environment with nothing but PATH and HOME."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        self.ups: list[Up] = []

    def wfe(self, *words: str, **more):
        return subprocess.run(
            [WFE, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            **more,
        )

    def up(self, *words: str, terminal: bool = False) -> Up:
        made = Up(self, ["--port", "0", "--grpc-port", "0", "--samples", SAMPLES, *words], terminal)
        self.ups.append(made)
        return made


class Up:
    """A running `wfe up`, without a terminal or with one."""

    def __init__(self, shell: Shell, words: list[str], terminal: bool) -> None:
        self.output = ""
        self._terminal = -1
        if terminal:
            self._terminal, inner = pty.openpty()
            files = {"stdin": inner, "stdout": inner, "stderr": inner}
        else:
            self._read, write = os.pipe()
            files = {"stdin": subprocess.DEVNULL, "stdout": write, "stderr": write}
        # With a terminal of its own, so that Ctrl-C typed there reaches it as it would a person's.
        command = [*(["setsid", "--ctty"] if terminal else []), WFE, "up", *words]
        self.process = subprocess.Popen(command, cwd=shell.folder, env=shell.environment, **files)
        os.close(files["stdout"])
        self._handle = self._terminal if terminal else self._read
        os.set_blocking(self._handle, False)

    def read(self) -> str:
        with suppress(BlockingIOError, OSError):
            while data := os.read(self._handle, 65536):
                self.output += data.decode(errors="replace").replace("\r\n", "\n")
        return self.output

    async def says(self, pattern: str, seconds: float = 90.0) -> re.Match[str]:
        return await wait_for(
            lambda: re.search(pattern, self.read()), seconds=seconds, what=f"{pattern!r} in {self.read()!r}"
        )

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def children(self) -> list[psutil.Process]:
        """Every process of it, the database's too; its guards are children as well."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.read()
        os.close(self._handle)


@pytest.fixture
async def shell():
    # Not pytest's folder: that one is closed to the account the database runs under when tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="wfe-up-"))
    found = Shell(folder)
    yield found
    for up in found.ups:
        children = up.children() if up.process.poll() is None else []
        up.close()
        await nothing_left(children)
    shutil.rmtree(folder, ignore_errors=True)


async def nothing_left(processes):
    def living():
        return [each.name() for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]

    def gone():
        with suppress(psutil.NoSuchProcess):
            return not living()
        return False

    await wait_for(gone, what="the end of every process")


async def test_without_a_terminal_the_printed_curl_approves_and_everything_can_be_restarted(shell):
    first = shell.up("--job")
    command = (await first.says(r"\n(curl .*/approve)\n"))[1]
    assert "There is no terminal to ask in" in first.output
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(answer.stdout)["status"] == "approved"
    attempt = (await first.says(r"The run completed\. Try:\n\n(curl .*)\n"))[1]
    await first.says("The engine goes on until Ctrl-C")
    assert all(word in first.output for word in ("summarise", "approval.requested", "run.completed"))

    # What it prints to try works, and so does the command line beside it, which finds the engine by its folder.
    answer = subprocess.run(["bash", "-c", attempt], capture_output=True, text=True, check=True, timeout=30)
    run = json.loads(answer.stdout)
    assert run["status"] == "completed"
    assert json.loads(shell.wfe("runs", "list", "--json").stdout)["workflows"][0]["id"] == run["id"]
    assert shell.wfe("runs", "start", "hello", "-i", "name=you", "--watch").returncode == 0

    # A second engine in the folder is refused in one line.
    second = shell.wfe("up", "--port", "0", "--grpc-port", "0")
    assert second.returncode == 1
    assert re.fullmatch(r"wfe: another stack runs in .* \(process \d+\); stop it, or name [^\n]+\n", second.stderr)

    # A part that dies is started again, and that is said.
    scheduler = next(each for each in first.children() if any("wfe-scheduler" in word for word in each.cmdline()))
    scheduler.kill()
    await first.says(r"wfe: scheduler was ended by SIGKILL; starting it again in 0\.2 s\n")
    await first.says(r"wfe: scheduler is up again\n")
    assert shell.wfe("runs", "start", "hello", "--watch").returncode == 0

    children = first.children()
    first.process.send_signal(signal.SIGTERM)
    assert await first.ended() == 0
    await nothing_left(children)
    assert shell.wfe("runs", "list").returncode == 1

    # The data are there at the next start; a killed engine leaves no process either.
    again = shell.up()
    await again.says("The engine goes on until Ctrl-C")
    assert run["id"] in [each["id"] for each in json.loads(shell.wfe("runs", "list", "--json").stdout)["workflows"]]
    children = again.children()
    again.process.kill()
    await again.ended()
    await nothing_left(children)

    # Where its guards are killed with it, what it leaves is ended by the next start.
    third = shell.up()
    await third.says("The engine goes on until Ctrl-C")
    children = third.children()
    for guard in [each for each in children if each.name() == "sh"]:
        guard.kill()
    third.process.kill()
    await third.ended()
    assert {each.name() for each in children if each.is_running()} >= {"postgres", "nats-server", "envoy"}
    last = shell.up()
    await last.says(r"wfe: ended \d+ processes an earlier stack left in ")
    await nothing_left(children)
    await last.says("The engine goes on until Ctrl-C")


async def test_at_a_terminal_it_asks_and_the_answer_is_taken(shell):
    up = shell.up("--job", terminal=True)
    await up.says(r"As ada, approve or reject\? \[a/r\] $")
    up.types("perhaps\n")
    await up.says(r"perhaps\s+.*approve or reject\? \[a/r\] $")
    up.types("r\n")
    await up.says("The run failed")
    await up.says("The engine goes on until Ctrl-C")
    children = up.children()
    up.types("\x03")
    assert await up.ended() == 0
    await nothing_left(children)


async def test_a_signal_during_the_start_ends_everything(shell):
    up = shell.up()
    await up.says("Starting the engine")
    children = await wait_for(lambda: len(found := up.children()) > 3 and found)
    up.process.send_signal(signal.SIGTERM)
    assert await up.ended() != 0
    await nothing_left(children)


def test_a_taken_port_is_one_line(shell):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = shell.wfe("up", "--port", str(port), "--grpc-port", "0")
    assert ended.returncode == 1
    line = rf"wfe: port {port} is taken by .* \(process \d+\); choose another with --port\n"
    assert re.fullmatch(line, ended.stderr)


def test_a_folder_that_cannot_be_used_is_one_line(shell):
    (shell.folder / "file").write_text("")
    ended = shell.wfe("up", "--home", "file/data")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "cannot be used: Not a directory; name another with --home" in ended.stderr


async def test_servers_that_exist_are_used_and_left_running(shell, postgres_server, nats_url):
    shell.environment["WFE_DATABASE_URL"] = create_database(postgres_server, f"wfe_up_{secrets.token_hex(6)}")
    shell.environment["WFE_NATS_URL"] = nats_url
    # A module of the current folder, beside the handlers of the samples.
    (shell.folder / "mine.py").write_text(
        "from wfe_sdk import handler\n\nhandler('mine')(lambda given: {'got': given})\n"
    )
    (shell.folder / "mine.yaml").write_text("name: mine\nsteps:\n  - {id: a, call: {handler: mine, input: {b: 1}}}\n")
    up = shell.up("--handlers", "mine")
    await up.says("The engine goes on until Ctrl-C")
    children = up.children()
    assert not [each for each in children if each.name() in ("postgres", "nats-server")]
    assert shell.wfe("runs", "start", "hello", "--watch").returncode == 0
    assert shell.wfe("templates", "publish", "mine.yaml").returncode == 0
    assert shell.wfe("runs", "start", "mine", "--watch").returncode == 0
    up.process.send_signal(signal.SIGTERM)
    assert await up.ended() == 0
    await nothing_left(children)
    with psycopg.connect(shell.environment["WFE_DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE status = 'completed'").fetchone() == (2,)
    host, _, port = nats_url.rpartition("//")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        assert connection.recv(4) == b"INFO"


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        (["--host", "192.0.2.1"], {}, r"wfe: cannot listen on 192\.0\.2\.1 .*; name another address with --host"),
        (
            [],
            {"WFE_DATABASE_URL": "mysql://x"},
            r"wfe: the database cannot be used: its URL must begin with postgresql://",
        ),
        ([], {"WFE_NATS_URL": "nats://127.0.0.1:{port}"}, r"wfe: the bus cannot be reached: .*; look at WFE_NATS_URL"),
        ([], {"WFE_OIDC_FILE": "none.json"}, r"wfe: \w+ ended with exit code 2: configuration: WFE_OIDC_FILE: .*"),
    ],
)
def test_what_cannot_be_used_is_one_line(shell, words, environment, says):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets the port
        port = silent.getsockname()[1]
        shell.environment |= {name: value.replace("{port}", str(port)) for name, value in environment.items()}
        ended = shell.wfe("up", "--port", "0", "--grpc-port", "0", *words)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert re.fullmatch(says, line), line


@pytest.mark.parametrize("words", [["--port", "99999"], ["--grpc-port", "-1"], ["--samples", "nowhere"]])
def test_wrong_options_are_told_before_anything_starts(shell, words):
    ended = shell.wfe("up", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words[0] in ended.stderr


def test_a_database_that_is_not_there_is_one_line(shell):
    shell.environment["WFE_DATABASE_URL"] = f"postgresql://nobody@/nowhere?host={shell.folder}"
    ended = shell.wfe("up", "--port", "0", "--grpc-port", "0")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("wfe: the database cannot be used: ")


def test_a_database_that_does_not_hold_every_text_is_one_line(shell, postgres_server):
    name = f"wfe_ascii_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    shell.environment["WFE_DATABASE_URL"] = with_database(postgres_server, name)
    ended = shell.wfe("up", "--port", "0", "--grpc-port", "0")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("wfe: the database cannot be used: its encoding is SQL_ASCII, and UTF8 is needed")


def test_a_module_of_handlers_that_is_missing_is_one_line(shell):
    ended = shell.wfe("up", "--port", "0", "--grpc-port", "0", "--handlers", "no_such_module")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("wfe: executor ended with exit code ")
    assert "no_such_module" in ended.stderr


def test_the_demo_sees_every_state_and_leaves_nothing(shell):
    before = {path.name for path in Path(tempfile.gettempdir()).glob("wfe-demo-*")}
    ended = shell.wfe("demo")
    assert ended.returncode == 0, ended.stderr
    assert "Seen: pending, running, waiting_approval, completed\n" in ended.stdout
    assert {path.name for path in Path(tempfile.gettempdir()).glob("wfe-demo-*")} <= before
