"""Bugs to plant: each a change of one place of the engine's own code, and the failure mode it stands for.

`plant` makes the next import of the module the changed one, so it must come before anything imports the engine. A
place that is not there, or there twice, is an error: a bug that was not planted must not count as found.
"""

from __future__ import annotations

import importlib.machinery
import pathlib
import sys
from typing import Any, NamedTuple


class Bug(NamedTuple):
    """A change of the code.

    Attributes:
        name: What is broken.
        mode: The failure mode of docs/reliability.md it stands for.
        module: Where.
        old, new: Text that is there once, and what takes its place.
    """

    name: str
    mode: str
    module: str
    old: str
    new: str


DECIDE, CYCLE, BATCH = "wfe_engine.decide", "wfe_scheduler.cycle", "wfe_store.batch"
SCHEDULES = "wfe_scheduler.schedules"
SWEEPER, EXECUTORS, CHILDREN = "wfe_scheduler.sweeper", "wfe_scheduler.executors", "wfe_scheduler.children"

BUGS = (
    Bug("a report is taken under any fence", "F3", DECIDE, '"fence": command.fence,', '"fence": None,'),
    Bug("fences begin anew with every dispatch", "F3", BATCH, "return version << 16", "return 1 << 16"),
    Bug("a lease is sent under another fence", "F3", "wfe_scheduler.work",
        "return fence_of(work.entry.version) + 1", "return fence_of(work.entry.version) + 2"),
    Bug("a stale outcome is acknowledged", "F3", EXECUTORS,
        "elif refusal is not None:", "elif refusal is not None and not isinstance(refusal, Stale):"),
    Bug("a timer that comes early ends the wait", "F20", DECIDE, "if due > turn.now:", "if False:"),
    Bug("a resumed run does not set its timers", "F20", DECIDE,
        "if step.status == WAITING and step.due is not None:", "if False:"),
    Bug("timers are not swept", "F20", SWEEPER, "for run, no, moment in due.timers:", "for run, no, moment in []:"),
    Bug("timers are not taken away", "F20", BATCH,
        "                self.timers_off.add(run, no)", "                pass"),
    Bug("steps that nobody has are not announced", "F1", SWEEPER, "if queues:", "if False:"),
    Bug("what a sweep has found once it never looks at again", "F1", SWEEPER,
        "self._under_way.discard(key)", "pass"),
    Bug("lost child runs are not looked for", "F1", CHILDREN,
        "        for wish in wishes:\n            self._spawn(self._carry_out(wish))\n        self._submit_ends",
        "        self._submit_ends"),
    Bug("parents that were not told are not looked for", "F1", CHILDREN,
        "            self._spawn(self._carry_out(wish))\n        self._submit_ends(ended)",
        "            self._spawn(self._carry_out(wish))"),
    Bug("decisions that were not told are not looked for", "F1", "wfe_approvals.usecases.tell_untold",
        "await bus.tell(decisions)", "pass"),
    Bug("the same message runs a step twice", "F2", "wfe_executor.slots",
        "if self._over.get(attempt.key, -1) >= lease.fence:", "if False:"),
    Bug("the key of a step leaves out its iteration", "F4", "wfe_scheduler.dispatcher",
        'return f"{run}:{path}:{iteration}:{visit}:{epoch}"', 'return f"{run}:{path}::{visit}:{epoch}"'),
    Bug("a decision that lost counts as done", "F5", CYCLE,
        "            stopped = await store.commit(connection, batch)\n        except",
        "            stopped = []\n            try:\n                stopped = await store.commit(connection, batch)\n"
        "            except Lost:\n                pass\n        except"),
    Bug("memory changes before the commit", "F5", CYCLE,
        "        work.state = decision.state\n", "        work.state = work.entry.state = decision.state\n"),
    Bug("a state is changed without an event", "F5", DECIDE,
        "    turn.effects.release = paused_for\n",
        "    turn.effects.release = paused_for\n    turn.state = replace(turn.state, reason='resumed')\n"),
    Bug("a commit does not raise the version", "F5", "wfe_scheduler.work",
        "version=entry.version + 1,", "version=entry.version,"),
    Bug("callers are answered before the commit", "F6", CYCLE,
        "        work.items.append(item)\n", "        work.items.append(item)\n        item.done(None)\n"),
    Bug("a step may lose any number of leases", "F8", SWEEPER, "if lease.losses >= self._lease_losses:", "if False:"),
    Bug("one attempt more than the policy allows", "F8", "wfe_engine.retry",
        "attempt >= policy.max_attempts", "attempt > policy.max_attempts"),
    Bug("an attempt is not counted", "F8", DECIDE, "attempt = step.attempts + 1", "attempt = max(1, step.attempts)"),
    Bug("a doubtful commit counts as failed", "F11", CYCLE, "unknown=isinstance(fault, Unknown)", "unknown=False"),
    Bug("a second doubtful commit counts as failed", "F11", CYCLE,
        "                doubtful = [*doubtful, work]\n", ""),
    Bug("a doubtful commit counts as done", "F11", CYCLE,
        "            stopped = await store.commit(connection, batch)\n        except",
        "            stopped = []\n            try:\n                stopped = await store.commit(connection, batch)\n"
        "            except Unknown:\n                pass\n        except"),
    Bug("a report that was not committed is answered", "F11", EXECUTORS,
        "            if reply.failed:\n                continue", "            if False:\n                continue"),
    Bug("the key of a start is not stored", "F11", "wfe_scheduler.engine",
        "            key=key,\n", "            key=None,\n"),
    Bug("a run that cannot be read leaves its callers waiting", "F13", "wfe_scheduler.reader",
        "item.done(fault or refusals.missing(run))", "pass"),
    Bug("what waited for a commit is forgotten", "F13", CYCLE, "self._queue(entry.pending)\n", "pass\n"),
    Bug("a seq is used twice", "F15", "wfe_scheduler.work",
        "first_seq=entry.state.seq + 1,", "first_seq=entry.state.seq,"),
    Bug("two gates decided at once void each other for ever", "F27", DECIDE,
        "closed[:] = [replace(gate, decided=True) for gate in closed]", "pass"),
    Bug("a gate that was decided is told for ever", "F28", BATCH,
        "            self.told.add(UUID(gate))", "            pass"),
    Bug("a stopped step leaves its gate open", "F28", "wfe_engine.unwind",
        'turn.effects.close_gate(step.gate, word)', "pass"),
    Bug("a paused run's steps are handed out", "F28", BATCH, "            self.hold.add(run)", "            pass"),
    Bug("the clock of a compensation breaks its run", "F8", DECIDE,
        "    _failed(turn, scope, step_id, fault, step.attempts)",
        "    _failed(turn, scope, turn.node(scope, index).id, fault, step.attempts)"),
    Bug("a run read back has lost its mail", "F11", "wfe_scheduler.entries",
        "    values.signals = loaded.signals\n", ""),
    Bug("the key of a firing leaves out its moment", "F11", SCHEDULES,
        "KEY.format(id=schedule.id, at=at.astimezone(dt.UTC).isoformat())", 'KEY.format(id=schedule.id, at="")'),
    Bug("the run of a firing is started without a key", "F11", SCHEDULES,
        "KEY.format(id=schedule.id, at=at.astimezone(dt.UTC).isoformat())", "None"),
    Bug("what is entered beside compensations is left over", "F8", "wfe_engine.advance",
        "present.fault is not None or turn.closing or", "present.fault is not None or"),
    Bug("a block that has ended is stopped again", "F8", "wfe_engine.unwind",
        "if key in turn.state.scopes and (", "if ("),
    Bug("an answer is taken after the end of its run", "F32", "wfe_engine.kinds.waiting",
        "        end(turn, scope, index, step, _failure(turn, letter, step.path))\n",
        "        end(turn, scope, index, step, _failure(turn, letter, step.path))\n"
        "        turn.emit(ev.SignalTaken(**where, signal=letter.id))\n"),
)  # fmt: skip


class _Finder(importlib.machinery.PathFinder):
    """Finds one module, and changes it."""

    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # type: ignore[override]
        if name != self._bug.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin, self._bug)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, bug: Bug) -> None:
        super().__init__(name, path)
        self._bug = bug

    def get_code(self, fullname: str) -> Any:
        source = self.get_source(fullname)
        found = source.count(self._bug.old)
        if found != 1:
            raise LookupError(f"{self._bug.module} has {found} places for: {self._bug.name}")
        return compile(source.replace(self._bug.old, self._bug.new), self.path, "exec")


def check() -> list[str]:
    """What is not as the bugs expect it: a sentence for each that could not be planted. Imports nothing."""
    wrong = []
    for bug in BUGS:
        package, *inner = bug.module.split(".")
        spec = importlib.machinery.PathFinder.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        source = pathlib.Path(spec.submodule_search_locations[0], *inner).with_suffix(".py").read_text()
        if source.count(bug.old) != 1:
            wrong.append(f"{bug.module} has {source.count(bug.old)} places for: {bug.name}")
    return wrong


def plant(name: str) -> Bug:
    """Change the code that is imported from now on."""
    bug = next(bug for bug in BUGS if bug.name == name)
    assert bug.module not in sys.modules, "it must be planted before the engine is imported"
    sys.meta_path.insert(0, _Finder(bug))
    return bug
