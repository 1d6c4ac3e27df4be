"""A NATS server, a scheduler and leases for the executor's tests."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import wfe_sdk
from wfe_bus import messages, subjects
from wfe_bus.connection import connect, settle
from wfe_bus.messages import (
    Chunk,
    Claim,
    FetchInput,
    Heartbeat,
    HeartbeatAnswer,
    Lease,
    LeaseRef,
    Leases,
    Outcome,
    PartStored,
    Report,
    Reported,
    Stop,
    StorePart,
    Unseal,
    Unsealed,
)
from wfe_executor.config import Settings

HERE = Path(__file__).parent
HANDLERS = "executor_handlers"


class Nats:
    """A NATS server of its own, with the users and permissions of production; can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = -1
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        users = [
            {"user": role, "password": "secret", "permissions": subjects.PERMISSIONS[role]}
            for role in ("scheduler", "executor")
        ]
        config = self.folder / "nats.conf"
        config.write_text(json.dumps({"authorization": {"users": users}}))
        binary = Path(sys.executable).parent / "nats-server"
        self.process = subprocess.Popen(
            [binary, "-a", "127.0.0.1", "-p", str(self.port), "-c", config, "--ports_file_dir", self.folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for path in self.folder.glob("*.ports"):
                text = path.read_text()
                if text.endswith("}"):
                    self.port = int(json.loads(text)["nats"][0].rsplit(":", 1)[1])
                    path.unlink()
                    return
            time.sleep(0.005)
        raise AssertionError("nats-server did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def lease(handler: str = "echo", value: Any = None, **fields: Any) -> Lease:
    """A lease of a `call` step, unless the fields say otherwise."""
    request = msgspec.json.encode({"handler": handler, "input": value})
    facts: dict[str, Any] = {
        "run": uuid4().bytes, "no": 1, "fence": 1, "path": "step", "kind": "call", "request": request,
        "attempt": 1, "max_attempts": 3, "idempotency_key": "key-1",
    }  # fmt: skip
    return Lease(**(facts | fields))


def ref(one: Lease) -> LeaseRef:
    return LeaseRef(run=one.run, no=one.no, fence=one.fence)


class FakeScheduler:
    """Speaks the scheduler's side of the protocol, and keeps everything it hears."""

    def __init__(self, name: str = "s1") -> None:
        self.name = name
        self.client: Any = None
        self.claims: list[Claim] = []
        self.beats: list[Heartbeat] = []
        self.reports: list[Report] = []
        self.outcomes: dict[bytes, list[Outcome]] = {}
        self.inputs: dict[bytes, bytes] = {}
        self.values: dict[bytes, dict[str, Any]] = {}
        self.secrets: dict[bytes, dict[str, Any]] = {}
        self.missing: dict[bytes, tuple[str, ...]] = {}
        self.parts: dict[bytes, dict[int, bytes]] = {}
        self.stale: set[bytes] = set()
        self.lost: tuple[LeaseRef, ...] = ()
        self.lease_seconds = 15.0
        self.clock = 0.0
        self.answers_beats = True
        self.answers_reports = True
        self.gate: asyncio.Event | None = None
        self.next: Callable[[Report], tuple[Lease, ...]] = lambda report: ()
        self._heard = asyncio.Event()

    def now(self) -> float:
        return time.time() + self.clock

    async def start(self, bus: Nats, *, direct: bool = True) -> None:
        self.client = await connect(bus.url, role="scheduler", name=self.name, user="scheduler", password="secret")
        group = subjects.SCHEDULERS
        await self.client.subscribe(subjects.CLAIM, group, cb=self._on(Claim, self._claim))
        await self.client.subscribe(subjects.HEARTBEAT, group, cb=self._on(Heartbeat, self._beat))
        await self.client.subscribe(subjects.REPORT, group, cb=self._on(Report, self._report))
        await self.client.subscribe(subjects.FETCH, group, cb=self._on(FetchInput, self._fetch))
        await self.client.subscribe(subjects.STORE, group, cb=self._on(StorePart, self._store))
        await self.client.subscribe(subjects.UNSEAL, group, cb=self._on(Unseal, self._unseal))
        if direct:
            await self.client.subscribe(subjects.report_to(self.name), cb=self._on(Report, self._report))
        await settle(self.client)

    def _on(self, kind: type[Any], answer: Any) -> Any:
        decode = messages.decoder(kind).decode

        async def take(message: Any) -> None:
            said = await answer(decode(message.data))
            if said is not None and message.reply:
                await message.respond(messages.encode(said))
            self._heard.set()

        return take

    async def _claim(self, claim: Claim) -> None:
        self.claims.append(claim)

    async def _beat(self, beat: Heartbeat) -> HeartbeatAnswer | None:
        self.beats.append(beat)
        if not self.answers_beats:
            return None
        return HeartbeatAnswer(lost=self.lost, lease_seconds=self.lease_seconds, now=self.now())

    async def _report(self, report: Report) -> Reported | None:
        self.reports.append(report)
        for outcome in report.outcomes:
            self.outcomes.setdefault(outcome.run, []).append(outcome)
        self._heard.set()
        if self.gate is not None:
            await self.gate.wait()
        if not self.answers_reports:
            return None
        stale = tuple(LeaseRef(run=o.run, no=o.no, fence=o.fence) for o in report.outcomes if o.run in self.stale)
        leases = self.next(report)
        return Reported(stale=stale, leases=self.bundle(leases) if leases else None)

    async def _fetch(self, ask: FetchInput) -> Chunk:
        if ask.lease.run in self.stale:
            return Chunk(stale=True)
        whole = self.inputs[ask.lease.run]
        return Chunk(data=whole[ask.offset : ask.offset + 1000], total=len(whole))

    async def _store(self, ask: StorePart) -> PartStored:
        if ask.lease.run in self.stale:
            return PartStored(stale=True)
        self.parts.setdefault(ask.blob, {})[ask.number] = ask.data
        return PartStored()

    async def _unseal(self, ask: Unseal) -> Unsealed:
        if ask.lease.run in self.stale:
            return Unsealed(stale=True)
        run = ask.lease.run
        return Unsealed(
            values={name: msgspec.json.encode(value) for name, value in self.values.get(run, {}).items()},
            secrets={name: msgspec.json.encode(value) for name, value in self.secrets.get(run, {}).items()},
            missing=self.missing.get(run, ()),
        )

    def bundle(self, leases: tuple[Lease, ...]) -> Leases:
        return Leases(scheduler=self.name, leases=leases, now=self.now())

    async def hand(self, executor: str, *leases: Lease) -> None:
        await self.client.publish(subjects.leases_for(executor), messages.encode(self.bundle(leases)))

    async def stop_work(self, executor: str, *leases: Lease) -> None:
        stop = Stop(leases=tuple(ref(one) for one in leases), reason="cancelled")
        await self.client.publish(subjects.stop_for(executor), messages.encode(stop))

    async def until(self, found: Callable[[], Any], seconds: float = 10.0) -> Any:
        """Wait until a condition over what was heard holds; gives its value."""
        deadline = time.monotonic() + seconds
        while not (value := found()):
            self._heard.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"not within {seconds} s; {len(self.reports)} reports, {len(self.beats)} beats")
            try:
                await asyncio.wait_for(self._heard.wait(), min(left, 0.02))
            except TimeoutError:
                continue
        return value

    async def outcome(self, one: Lease, seconds: float = 10.0) -> Outcome:
        """The first outcome reported for a lease."""
        found: list[Outcome] = await self.until(lambda: self.outcomes.get(one.run), seconds)
        return found[0]

    async def close(self) -> None:
        if self.client is not None and not self.client.is_closed:
            await self.client.close()


def settings(bus: Nats, **fields: Any) -> Settings:
    facts: dict[str, Any] = {
        "nats_url": bus.url, "nats_user": "executor", "nats_password": "secret", "executor_name": "test",
        "executor_slots": 8, "executor_processes": 1, "handlers": HANDLERS, "heartbeat_seconds": 0.1,
        "drain_seconds": 0.2, "egress_allow": "127.0.0.0/8",
    }  # fmt: skip
    return Settings(**(facts | fields))


def async_handlers() -> wfe_sdk.Registry:
    """Only the async handlers, so that no worker process is started."""
    only = wfe_sdk.Registry()
    for name in wfe_sdk.registry.names():
        found = wfe_sdk.registry.get(name)
        if found is not None and found.is_async:
            only.handler(name)(found.function)
    return only


def alive(pid: int) -> bool:
    """Whether a process runs; zombies do not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
