"""The whole engine as processes of one machine: started together, watched, ended together."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import aiohttp

from wfe_stack import leftovers, parts
from wfe_stack.bus import new_passwords, reach, write_config
from wfe_stack.database import RunStore
from wfe_stack.faults import PartFault, StackFault
from wfe_stack.folder import Folder, write_private
from wfe_stack.guard import Guard
from wfe_stack.keeper import Keeper
from wfe_stack.ports import Ports
from wfe_stack.samples import publish_samples
from wfe_stack.seed import seed
from wfe_stack.settings import StackSettings

#: Seconds from the start of the services until the engine must say that it is ready.
READY_SECONDS = 60.0
POSTGRES = "postgres"

_log = logging.getLogger("wfe.stack")


class Stack:
    """The engine on this machine; an async context manager, or `start` and `stop`.

    Parts go by name: postgres, nats, gateway, scheduler, approvals, executor, and scheduler-2, … where there
    are several.

    Args:
        settings: What it is to be like.
        say: Tells people, in one line each, what happens by itself; the log when absent.

    Attributes:
        keys: API keys of the seeded people, by name.
        started_seconds: How long the start took, from the folder's lock to ready.
    """

    def __init__(self, settings: StackSettings, say: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self.keys: dict[str, str] = {}
        self.started_seconds = 0.0
        self._say = say or _log.warning
        self._ports = Ports()
        self._folder: Folder | None = None
        self._guard: Guard | None = None
        self._store: RunStore | None = None
        self._plan: parts.Plan | None = None
        self._keepers: dict[str, Keeper] = {}
        self._lost: asyncio.Future[PartFault] | None = None

    @property
    def url(self) -> str:
        """Base URL of the REST API."""
        return f"http://{self._reached}:{self._planned.rest_port}"

    @property
    def grpc(self) -> str:
        """Target of the gRPC API through the gateway."""
        return f"{self._reached}:{self._planned.grpc_port}"

    def service(self, part: str) -> str:
        """Address of a scheduler or an approvals service itself, past the gateway."""
        found = self._keeper(part).part
        return f"{found.host}:{found.port}"

    @property
    def metrics(self) -> dict[str, str]:
        """URLs of the parts' metrics, by part; empty when none are served."""
        keepers = self._keepers.items()
        return {name: f"http://127.0.0.1:{k.part.metrics}/metrics" for name, k in keepers if k.part.metrics}

    @property
    def database_url(self) -> str:
        """URL of the run store."""
        return self._planned.database_url

    @property
    def nats_url(self) -> str:
        """URL of the bus; see `nats_password`."""
        return self._planned.nats_url

    def nats_password(self, role: str) -> str | None:
        """Password of a role's user, which is named like the role; None at somebody else's server."""
        return self._planned.passwords.get(role)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the parts that run, by name."""
        found = {}
        if self._store is not None and (pid := self._store.pid) is not None:
            found[POSTGRES] = pid
        for name, keeper in self._keepers.items():
            if keeper.process is not None and keeper.process.returncode is None:
                found[name] = keeper.process.pid
        return found

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start every part and wait until the engine is ready. When that fails, everything is ended again.

        Raises:
            StackFault: The stack cannot run; one line says why.
        """
        began = time.monotonic()
        self._lost = asyncio.get_running_loop().create_future()
        try:
            self._folder = await asyncio.to_thread(Folder.take, self.settings.folder)
            if left := await asyncio.to_thread(leftovers.clear, self._folder.path, self._folder.postgres):
                self._say(f"ended {left} processes an earlier stack left in {self._folder.path}")
            await self._start(self._folder)
            self.started_seconds = time.monotonic() - began
        except BaseException:
            await asyncio.shield(self.stop())
            raise

    async def stop(self) -> None:
        """End every part, in order, and give the folder back. Data stays. Safe to repeat."""
        if self._folder is not None:
            self._folder.address.unlink(missing_ok=True)
        for keeper in self._keepers.values():
            await keeper.let_go()
        for rank in sorted({keeper.part.rank for keeper in self._keepers.values()}):
            await _all([keeper.stop() for keeper in self._keepers.values() if keeper.part.rank == rank])
        self._keepers.clear()
        if self._store is not None:
            await self._store.stop()
            self._store = None
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        self._ports.release()
        if self._folder is not None:
            self._folder.release()
            self._folder = None

    def kill_all(self) -> None:
        """Kill every part at once, for somebody who does not want to wait. `stop` still has to follow."""
        for keeper in self._keepers.values():
            if keeper.process is not None:
                keeper.process.kill()

    async def kill(self, part: str) -> None:
        """Kill a part with everything it started, as a crash would. It stays down until `restart`."""
        await (self._own_store().kill() if part == POSTGRES else self._keeper(part).kill())

    async def terminate(self, part: str) -> None:
        """Ask a part to end and wait for it. It stays down until `restart`."""
        await (self._own_store().stop() if part == POSTGRES else self._keeper(part).stop())

    async def restart(self, part: str, *, ready: bool = True) -> None:
        """Start a part, ending it first if it runs.

        Args:
            part: Its name.
            ready: Whether to wait until the engine is ready; others may still be down on purpose.

        Raises:
            PartFault: It does not start.
        """
        if part == POSTGRES:
            await self._own_store().restart()
        else:
            keeper = self._keeper(part)
            await keeper.stop()
            keeper.start()
            await keeper.up()
            if self.settings.restarts:
                keeper.keep()
        if ready:
            await self.ready()

    def signal(self, part: str, what: signal.Signals) -> None:
        """Send a part's process a signal; a part that ends of it is started again like any other."""
        self._keeper(part).signal(what)

    async def ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until the gateway says that every part is ready.

        Raises:
            PartFault: A part ended, or the engine is not ready in time.
        """
        deadline = time.monotonic() + seconds
        said = "the gateway does not answer"
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                for keeper in self._keepers.values():
                    if keeper.process is not None and not self.settings.restarts:
                        keeper.check()
                try:
                    async with session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                        said = _readiness(await answer.text())
                except (aiohttp.ClientError, TimeoutError, OSError):
                    pass
                if time.monotonic() > deadline:
                    raise PartFault(f"not ready after {seconds:g} s: {said} (logs: {self._logs})")
                await asyncio.sleep(0.02)

    async def lost(self) -> PartFault:
        """Wait until a part cannot be kept running any more, and return why."""
        assert self._lost is not None
        return await asyncio.shield(self._lost)

    async def _start(self, folder: Folder) -> None:
        settings = self.settings
        passwords = new_passwords() if settings.nats_url is None else {}
        self._plan = plan = parts.reserve(settings, folder, self._ports, passwords)
        self._guard = Guard(folder.lock)
        self._store = RunStore(
            folder.postgres, settings.database_url, settings.postgres, self._guard, self._say, self._give_up
        )
        early = [parts.gateway(plan)]
        if settings.nats_url is not None:
            await reach(settings.nats_url)
        else:
            write_config(folder.path / "nats.conf", plan.nats_port, passwords)
            early.insert(0, parts.nats(plan))
        for part in early:
            self._launch(part)
        await _all([self._store.start(), *(self._keepers[part.name].up() for part in early)])
        self._plan = plan = parts.with_database(plan, self._store.url)
        for part in parts.services(plan):
            self._launch(part)
        self.keys = await seed(plan.database_url, folder.keys)
        await self._await_first_ready()
        if settings.samples is not None:
            await publish_samples(self.url, self.keys["sam"], settings.samples)
        if settings.restarts:
            self._store.keep()
            for keeper in self._keepers.values():
                keeper.keep()
        # Only this account can read the file.
        address = {
            "url": self.url,
            "grpc": self.grpc,
            "database": self.database_url,
            "nats": self.nats_url,
            "metrics": self.metrics,
            "process": os.getpid(),
        }
        write_private(folder.address, json.dumps(address) + "\n")

    async def _await_first_ready(self) -> None:
        """Wait until the engine is ready or a part ends: before it was ready once, none is started again."""
        ready = asyncio.create_task(self.ready())
        ends = {
            asyncio.create_task(keeper.process.wait()): keeper
            for keeper in self._keepers.values()
            if keeper.process is not None
        }
        try:
            await asyncio.wait([ready, *ends], return_when=asyncio.FIRST_COMPLETED)
            for end, keeper in ends.items():
                if end.done():
                    keeper.check()
            await ready
        finally:
            for task in (ready, *ends):
                task.cancel()
            await asyncio.gather(ready, *ends, return_exceptions=True)

    def _launch(self, part: parts.Part) -> None:
        assert self._guard is not None
        keeper = Keeper(part, self._planned.folder.logs, self._guard, self._say, self._give_up)
        self._keepers[part.name] = keeper
        keeper.start()

    def _give_up(self, fault: PartFault) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(fault)

    def _keeper(self, part: str) -> Keeper:
        try:
            return self._keepers[part]
        except KeyError:
            known = ", ".join([POSTGRES, *self._keepers])
            raise StackFault(f"there is no part {part!r}; there are {known}") from None

    def _own_store(self) -> RunStore:
        if self._store is None or not self._store.is_own:
            raise StackFault("the run store is not the stack's own")
        return self._store

    @property
    def _planned(self) -> parts.Plan:
        if self._plan is None:
            raise StackFault("the stack was not started")
        return self._plan

    @property
    def _reached(self) -> str:
        host = self.settings.host
        return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)

    @property
    def _logs(self) -> str:
        return str(self._planned.folder.logs)


async def _all(steps: list[Coroutine[Any, Any, None]]) -> None:
    """Run them together; the first fault cancels the others, and is the one that is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as faults:
        # Not except*: what is raised there may come out as a group again.
        first: BaseException = faults
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _readiness(text: str) -> str:
    """What a 503 of /readyz says."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200] or "no reason given"
