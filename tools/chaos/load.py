"""Clients that start runs of every shape, decide their gates, signal them, and keep what they were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from wfe_stack.rest import ENDED, Refused, Rest, Unreachable

from tools.chaos.history import Decided, History, Start
from tools.chaos.shapes import TEMPLATES

#: Seconds a client repeats a call for; the longest outage is far shorter.
PATIENCE = 240.0
#: Of a hundred runs, so many are cancelled, and so many paused and resumed.
_CANCELLED, _PAUSED = 3, 3
_PASSING = frozenset({429, 499, 502, 503, 504})


class Load:
    """So many runs at once, until told to stop.

    Args:
        url: Where clients see the gateway.
        keys: API keys, of sam, ada and eve.
        witness: Where steps see the witness.
        history: Where to keep what clients were told.
        clients: Runs at once.
        seed: Of what they choose.
    """

    def __init__(
        self, url: str, keys: dict[str, str], witness: str, history: History, *, clients: int, seed: int
    ) -> None:
        self._url = url
        self._keys = keys
        self._witness = witness
        self._history = history
        self._seed = seed
        self._templates: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._numbers = iter(range(1, 1 << 40))
        self._gates: set[str] = set()
        self._clients = [asyncio.create_task(self._client(number)) for number in range(clients)]
        self._approvers = asyncio.create_task(self._approve())
        self._ready = asyncio.Event()
        self.faults: list[str] = []
        #: When a start was last acknowledged; `time.monotonic()`.
        self.acked_at = 0.0

    def begin(self, templates: dict[str, str]) -> None:
        """Go, with the ids of the templates by shape."""
        self._templates = templates
        self._ready.set()

    async def finish(self, seconds: float) -> None:
        """Start nothing new, and wait until every run has ended, as long as `seconds`."""
        self._stopping.set()
        _, waiting = await asyncio.wait(self._clients, timeout=seconds)
        for task in (*waiting, self._approvers):
            task.cancel()
        await asyncio.gather(*self._clients, self._approvers, return_exceptions=True)

    async def _client(self, number: int) -> None:
        await self._ready.wait()
        chance = random.Random(f"{self._seed}-{number}")
        async with Rest(self._url, self._keys["sam"], repeat_seconds=PATIENCE) as rest:
            while not self._stopping.is_set():
                try:
                    await self._one(rest, chance)
                except (Refused, Unreachable, TimeoutError) as fault:
                    self.faults.append(f"{type(fault).__name__}: {fault}")

    async def _one(self, rest: Rest, chance: random.Random) -> None:
        shape = chance.choice(list(TEMPLATES))
        fails = shape == "undo" and chance.random() < 0.5
        start = Start(key=f"chaos-{self._seed}-{next(self._numbers)}", shape=shape, fails=fails)
        self._history.starts.append(start)
        given: dict[str, Any] = {"w": self._witness}
        if shape == "undo":
            given["fails"] = fails
        run = await rest.start({"template_id": self._templates[shape], "input": given}, key=start.key)
        start.acked_at = time.time()
        start.run = run["id"]
        self.acked_at = time.monotonic()
        path = f"/api/v1/workflows/{start.run}"
        number = chance.randrange(100)
        if shape == "wait":
            await asyncio.sleep(chance.random() / 2)
            await self._signal(rest, start, path)
        if number < _CANCELLED:
            await asyncio.sleep(chance.random() / 2)
            start.cancel_asked = True
            start.cancel_acked = await self._insist(lambda: rest.post(f"{path}/cancel", {"reason": "chaos"}))
        elif number < _CANCELLED + _PAUSED:
            await self._insist(lambda: rest.post(f"{path}/pause"))
            await asyncio.sleep(chance.random())
            await self._insist(lambda: rest.post(f"{path}/resume"))
        await self._end(rest, start, path)

    async def _signal(self, rest: Rest, start: Start, path: str) -> None:
        try:
            await rest.post(f"{path}/signals/go", {"payload": 1}, key="go")
        except Refused as refusal:
            if refusal.status != 409:
                raise
        else:
            start.signal_acked = True

    async def _end(self, rest: Rest, start: Start, path: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            run = await rest.get(path, wait_seconds=20, view="basic")
            if run["status"] in ENDED:
                if run["status"] == "completed":
                    start.given = (await rest.get(path))["output"]["n"]
                start.seen = run["status"]
                return
            if run["status"] == "paused":
                # A pause that was thought lost arrived after the resume.
                await self._insist(lambda: rest.post(f"{path}/resume"))
        raise TimeoutError(f"the {start.shape} {start.run} is still {run['status']}")

    async def _insist(self, call: Callable[[], Awaitable[Any]]) -> bool:
        """Repeat a call until it is answered; whether the answer was yes, not that the state is another."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                await call()
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
            except Refused as refusal:
                if refusal.status == 409:
                    # The call before, whose answer was lost, may be what changed the state.
                    return False
                if refusal.status not in _PASSING or time.monotonic() > deadline:
                    raise
            else:
                return True
            await asyncio.sleep(0.2)

    async def _approve(self) -> None:
        """Decide every gate, now and then by two people of different minds at once."""
        await self._ready.wait()
        chance = random.Random(f"{self._seed}-gates")
        deciding: set[asyncio.Task[None]] = set()
        async with (
            Rest(self._url, self._keys["ada"], repeat_seconds=PATIENCE) as ada,
            Rest(self._url, self._keys["eve"], repeat_seconds=PATIENCE) as eve,
        ):
            while True:
                await asyncio.sleep(0.2)
                try:
                    listed = await ada.get("/api/v1/approvals", status="open", limit=200)
                except (Refused, Unreachable) as fault:
                    self.faults.append(f"inbox: {fault}")
                    continue
                for gate in listed["approvals"]:
                    if gate["id"] in self._gates:
                        continue
                    self._gates.add(gate["id"])
                    what = "reject" if chance.random() < 0.3 else "approve"
                    decisions = [(ada, "ada", what)]
                    if chance.random() < 0.3:
                        decisions.append((eve, "eve", chance.choice(["approve", "reject"])))
                    for rest, who, say in decisions:
                        task = asyncio.create_task(self._decide(rest, who, say, gate["workflow_id"], gate["id"]))
                        deciding.add(task)
                        task.add_done_callback(deciding.discard)

    async def _decide(self, rest: Rest, who: str, what: str, run: str, gate: str) -> None:
        try:
            if await self._insist(lambda: rest.post(f"/api/v1/workflows/{run}/approvals/{gate}/{what}")):
                self._history.decided.append(Decided(gate, what, who))
        except (Refused, Unreachable) as fault:
            self.faults.append(f"{what} of {gate}: {fault}")
