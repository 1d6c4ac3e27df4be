"""What a workload costs: processor time, memory and disk flushes of every process of the engine and of the client.

The fields are those of the peers' measurements, so that both can be put side by side.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")


class Processes:
    """The processes that are measured, by role; children count with their parent's role.

    Args:
        roles: Process id by role.
    """

    def __init__(self, roles: dict[str, int]) -> None:
        self._roots = {role: psutil.Process(pid) for role, pid in roles.items()}

    def _members(self) -> list[tuple[str, psutil.Process]]:
        found: dict[int, tuple[str, psutil.Process]] = {}
        for role, root in self._roots.items():
            try:
                members = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            # A part that is a child of this process counts once, under its own role.
            for member in members:
                if member.pid not in found or member.pid == root.pid:
                    found[member.pid] = (role, member)
        return list(found.values())

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time by role, those of children that have ended included."""
        used = dict.fromkeys(self._roots, 0.0)
        for role, process in self._members():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used[role] += times.user + times.system
            if process.pid == self._roots[role].pid and process.pid != os.getpid():
                used[role] += times.children_user + times.children_system
        return used

    def rss_mb(self) -> dict[str, float]:
        """Resident memory by role, in MiB; pages several processes share count once for each."""
        return self._memory("rss")

    def pss_mb(self) -> dict[str, float]:
        """Memory by role, in MiB, shared pages divided among those who share them."""
        return self._memory("pss")

    def _memory(self, what: str) -> dict[str, float]:
        used = dict.fromkeys(self._roots, 0.0)
        for role, process in self._members():
            try:
                memory = process.memory_info() if what == "rss" else process.memory_full_info()
            except psutil.Error:
                continue
            used[role] += getattr(memory, what) / 2**20
        return {role: round(mb, 1) for role, mb in used.items()}


def machine() -> tuple[float, float]:
    """Seconds all processors were busy, steal left out, and seconds the hypervisor took away."""
    with Path("/proc/stat").open() as file:
        ticks = [int(word) for word in file.readline().split()[1:]]
    return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / _TICKS, ticks[7] / _TICKS


def flushes(folder: Path) -> int:
    """Cache flushes the disk below a folder has done; -1 when the system does not tell."""
    number = folder.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    if (device / "partition").exists():
        device = device.parent
    try:
        words = (device / "stat").read_text().split()
    except OSError:
        return -1
    return int(words[15]) if len(words) > 15 else -1


async def quiet(processes: Processes, *, seconds: float = 150.0, cores: float = 0.1) -> None:
    """Wait, but not for ever, until others use less than so many cores."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        busy, mine, began = machine()[0], sum(processes.cpu().values()), time.perf_counter()
        await asyncio.sleep(2.0)
        others = (machine()[0] - busy) - (sum(processes.cpu().values()) - mine)
        if others / (time.perf_counter() - began) < cores:
            return


class Meter:
    """Measures while its `with` block runs.

    Attributes:
        wall: Seconds.
        cpu: Seconds of processor time in all.
        cpu_by: The same by role.
        peak_mb: Most resident memory at one time, in MiB.
        peak_by: Most resident memory of each role, in MiB.
        flushes: Cache flushes of the disk.
        foreign_cores: Cores others used meanwhile.
        steal_cores: Cores the hypervisor took away.
    """

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes = processes
        self._folder = folder
        self._stop = threading.Event()
        self.wall = self.cpu = self.peak_mb = self.foreign_cores = self.steal_cores = 0.0
        self.cpu_by: dict[str, float] = {}
        self.peak_by: dict[str, float] = {}
        self.flushes = 0

    def __enter__(self) -> Self:
        self._cpu0 = self._processes.cpu()
        self._flushes0 = flushes(self._folder)
        self._machine0 = machine()
        self._look()
        self._sampling = threading.Thread(target=self._sample, daemon=True)
        self._sampling.start()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wall = time.perf_counter() - self._began
        busy, stolen = machine()
        self._stop.set()
        used = self._processes.cpu()
        self._sampling.join()
        self._look()
        self.cpu_by = {role: round(used[role] - self._cpu0[role], 2) for role in used}
        self.cpu = sum(used.values()) - sum(self._cpu0.values())
        self.flushes = flushes(self._folder) - self._flushes0
        self.foreign_cores = round(max(0.0, (busy - self._machine0[0] - self.cpu) / self.wall), 3)
        self.steal_cores = round((stolen - self._machine0[1]) / self.wall, 3)

    def _sample(self) -> None:
        while not self._stop.wait(1.0):
            self._look()

    def _look(self) -> None:
        now = self._processes.rss_mb()
        self.peak_mb = max(self.peak_mb, sum(now.values()))
        self.peak_by = {role: max(mb, self.peak_by.get(role, 0.0)) for role, mb in now.items()}
