"""A worker process: runs sync handlers, one at a time, until it is killed or the executor is gone.

Started as `python -m wfe_executor.worker <fd> <module,module>`, where fd is one end of a socket pair.
The handler runs in the main thread, a second thread listens for cancellations and for the executor's end.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

import msgspec
from wfe_bus.messages import Failure
from wfe_sdk import StepContext, registry

from wfe_executor.outputs import encoded, encoded_progress, expected, failure, of_exception
from wfe_executor.wire import Beat, Cancel, Done, Frames, FromWorker, Start, Up, decode_to_worker, frame

#: Seconds between two heartbeats sent at most; the last progress of a burst follows after FLUSH_SECONDS.
BEAT_SECONDS = 0.05
FLUSH_SECONDS = 0.2

_TRACE_CHARS = 20_000


class Worker:
    """The worker's side of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send_lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Start] = queue.SimpleQueue()
        self._job: Start | None = None
        self._busy = False
        self._context: StepContext | None = None
        self._cancelled: set[int] = set()
        self._beat_at = 0.0
        self._waiting: Beat | None = None

    def run(self) -> None:
        """Work for ever."""
        threading.Thread(target=self._listen, name="control", daemon=True).start()
        self._send(Up())
        while True:
            job = self._jobs.get()
            done = self._handle(job)
            self._job = self._context = self._waiting = None
            self._busy = False
            self._send(done)

    def _handle(self, job: Start) -> Done:
        handler = registry.get(job.handler)
        if handler is None:
            why = failure("HANDLER_NOT_FOUND", f"no handler {job.handler!r} in the worker", retryable=False)
            return Done(job.no, failure=why)
        context = StepContext(
            run_id=job.run_id,
            step=job.step,
            idempotency_key=job.idempotency_key,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            iteration=job.iteration,
            visit=job.visit,
            owner=job.owner,
            deadline=job.deadline,
            beat=self._beat,
        )
        self._context, self._job = context, job
        context.cancelled = job.no in self._cancelled
        self._cancelled.clear()
        try:
            value = msgspec.json.decode(job.input)
            output = handler.function(value, context) if handler.wants_context else handler.function(value)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: the worker outlives its handlers
            trace = "" if expected(error) else _trace(error)
            return Done(job.no, failure=of_exception(error), trace=trace)
        data = encoded(output)
        return Done(job.no, failure=data) if isinstance(data, Failure) else Done(job.no, output=data)

    def _beat(self, progress: Any) -> None:
        job = self._job
        if job is None:
            return
        said = None if progress is None else encoded_progress(progress)
        beat = Beat(job.no, refused=said) if isinstance(said, str) else Beat(job.no, said)
        now = time.monotonic()
        if now - self._beat_at < BEAT_SECONDS:
            if said is not None or self._waiting is None:
                self._waiting = beat
            return
        self._beat_at, self._waiting = now, None
        self._send(beat)

    def _send(self, message: FromWorker) -> None:
        with self._send_lock:
            self._sock.sendall(frame(message))

    def _listen(self) -> None:
        frames = Frames()
        while True:
            if not select.select([self._sock], [], [], FLUSH_SECONDS if self._busy else None)[0]:
                waiting, self._waiting = self._waiting, None
                if waiting is not None:
                    self._send(waiting)
                continue
            data = self._sock.recv(1 << 16)
            if not data:
                os._exit(0)  # the executor is gone, and nobody would take what the handler gives back
            for body in frames.feed(data):
                message = decode_to_worker(body)
                if isinstance(message, Cancel):
                    self._cancel(message.no)
                else:
                    self._busy = True
                    self._jobs.put(message)

    def _cancel(self, no: int) -> None:
        self._cancelled.add(no)
        context, job = self._context, self._job
        if context is not None and job is not None and job.no == no:
            context.cancelled = True


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-_TRACE_CHARS:]


def main() -> None:
    """Import the modules and work."""
    faulthandler.enable()
    # A signal to the whole group is the executor's business: it drains, the handlers go on meanwhile. A
    # function and not SIG_IGN, which programs started by handlers would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    sock = socket.socket(fileno=int(sys.argv[1]))
    for module in filter(None, sys.argv[2].split(",")):
        importlib.import_module(module)
    Worker(sock).run()


if __name__ == "__main__":
    main()
