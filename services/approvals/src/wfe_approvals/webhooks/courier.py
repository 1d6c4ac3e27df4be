"""Sends deliveries. Any number of processes may do so at the same time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import structlog
from opentelemetry.trace import SpanKind
from wfe_egress import AnswerTooLarge, EgressDenied, GuardedSession
from wfe_engine.errors import ResourceExhausted, Unavailable
from wfe_language import ExpressionError
from wfe_servicekit.telemetry.tracing import Opened, open_span, parse, sampled, traceparent_of, tracing
from wfe_store.deliveries import Deliveries, Job, Outcome
from wfe_store.webhook_feed import Feed

from wfe_approvals import metrics
from wfe_approvals.webhooks.endpoints import Endpoint, Endpoints
from wfe_approvals.webhooks.payload import CONTENT_TYPE
from wfe_approvals.webhooks.pool import Pool
from wfe_approvals.webhooks.signing import signed_headers
from wfe_approvals.webhooks.verdict import Verdict, judge
from wfe_approvals.webhooks.wanted import Wanted, filter_of

#: Bytes of an answer that are read, characters of it that are kept, and headers.
MOST_ANSWER, MOST_KEPT, MOST_HEADERS = 64 * 1024, 2_048, 30
#: Seconds a lease is longer than an attempt may take.
LEASE_MARGIN = 15.0
#: Seconds outcomes are gathered for before they are written together, and nudges before somebody looks what is due.
GATHER_SECONDS = 0.025
#: Seconds before a delivery whose filter could not be evaluated for want of room is looked at again.
FILTER_AGAIN = 2.0
#: Age of a run, in seconds, from which on its deliveries are traces of their own that link to the run's.
LINK_SECONDS = 3600.0

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_log = structlog.get_logger("wfe.webhooks")


class Courier:
    """Takes due deliveries, sends each once, and records what became of it.

    Args:
        schedule: Seconds before each attempt.
        attempt_seconds: How long one may take.
        patience: How long a receiver may fail, without a success between, before it is told nothing any more.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        feed: Feed,
        endpoints: Endpoints,
        session: GuardedSession,
        pool: Pool,
        wanted: Wanted,
        *,
        schedule: Sequence[float],
        attempt_seconds: float,
        patience: timedelta,
    ) -> None:
        self._deliveries = deliveries
        self._feed = feed
        self._endpoints = endpoints
        self._session = session
        self._pool = pool
        self._wanted = wanted
        self._schedule = schedule
        self._attempt_seconds = attempt_seconds
        self._patience = patience
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: list[tuple[Outcome, Verdict | None]] = []
        self._wake = asyncio.Event()
        self.nudged = asyncio.Event()

    async def take(self) -> bool:
        """Take due deliveries and begin to send them; whether more may be due."""
        room = self._endpoints.room()
        if room.known <= 0:
            return False
        jobs = await self._deliveries.take(room, lease=self._attempt_seconds + LEASE_MARGIN)
        await self._endpoints.load(jobs)
        for job in jobs:
            begun = self._endpoints.begin(job)
            if begun is not None:
                self._spawn(self._deliver(job, *begun))
        return len(jobs) >= room.known

    async def run(self, poll_seconds: float) -> None:
        """Take deliveries whenever somebody nudges, and every `poll_seconds`, until cancelled."""
        while True:
            self.nudged.clear()
            try:
                if not await self.take():
                    # A moment for nudges to come together.
                    await asyncio.sleep(GATHER_SECONDS)
                    async with asyncio.timeout(poll_seconds):
                        await self.nudged.wait()
            except TimeoutError:
                pass
            except Unavailable:
                await asyncio.sleep(poll_seconds)
            except Exception:  # noqa: BLE001 - the next turn may succeed
                _log.exception("deliveries_not_taken")
                await asyncio.sleep(1.0)

    async def record(self) -> None:
        """Write outcomes as they come, together, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._wake.clear()
            await self.flush()
            self.nudged.set()

    async def drain(self) -> None:
        """Wait until nothing is under way, and write the last outcomes."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.flush()

    async def flush(self) -> None:
        """Write the outcomes there are. What cannot be written is sent again when its lease is over."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        for attempt in range(5):
            try:
                kept = await self._deliveries.end([outcome for outcome, _ in ended])
                await self._after([one for one in ended if one[0].job.id in kept])
                return
            except Unavailable:
                await asyncio.sleep(0.2 * 2**attempt)
            except Exception:  # noqa: BLE001 - others' outcomes must be written still
                _log.exception("outcomes_not_recorded", count=len(ended))
                return
        _log.warning("outcomes_lost", count=len(ended))

    async def _after(self, ended: Sequence[tuple[Outcome, Verdict | None]]) -> None:
        works: set[UUID] = set()
        fails: set[UUID] = set()
        pauses: dict[UUID, float] = {}
        runs: set[tuple[UUID, UUID]] = set()
        gone: set[UUID] = set()
        for outcome, verdict in ended:
            job = outcome.job
            if outcome.status != "pending" and job.run_id is not None:
                runs.add((job.webhook_id, job.run_id))
            if verdict is None:
                continue
            if verdict.error:
                fails.add(job.webhook_id)
            elif self._endpoints.is_news(job.webhook_id):
                works.add(job.webhook_id)
            if verdict.pause:
                pauses[job.webhook_id] = max(verdict.pause, pauses.get(job.webhook_id, 0.0))
            if verdict.gone:
                gone.add(job.webhook_id)
        runs = {(webhook_id, run) for webhook_id, run in runs if self._endpoints.is_ordered(webhook_id)}
        await self._feed.release(runs)
        lost: list[UUID] = []
        if works or fails or pauses:
            lost = await self._deliveries.note(
                works=sorted(works), fails=sorted(fails - works), pauses=pauses, patience=self._patience
            )
        for webhook_id, reason in [*((one, "gone") for one in gone), *((one, "failing") for one in lost)]:
            if await self._feed.disable(webhook_id, reason, self._wanted.address_disabled):
                metrics.DISABLED.inc(reason)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, outcome: Outcome, verdict: Verdict | None) -> None:
        self._ended.append((outcome, verdict))
        self._wake.set()

    async def _deliver(self, job: Job, endpoint: Endpoint, number: int) -> None:
        began, works = time.monotonic(), not endpoint.failing
        try:
            if job.unfiltered:
                outcome = await self._filter(job, endpoint)
                if outcome is not None:
                    self._end(outcome, None)
                    return
            began = time.monotonic()
            works = await self._attempt(job, endpoint)
        except Exception:  # noqa: BLE001 - it is due again when the lease is over
            _log.exception("delivery_not_attempted", webhook=str(job.webhook_id), run=str(job.run_id or ""))
        finally:
            self._endpoints.end(endpoint, number, works=works, took=time.monotonic() - began)
            self.nudged.set()

    async def _filter(self, job: Job, endpoint: Endpoint) -> Outcome | None:
        """The end of a delivery whose filter does not give true; None when it does."""
        assert endpoint.webhook is not None
        try:
            expression = filter_of(endpoint.webhook.filter)
            wanted = await self._pool.evaluate(expression, {"event": _decode(job.body)})
        except ExpressionError as fault:
            _log.debug("filter_failed", webhook=str(job.webhook_id), run=str(job.run_id or ""), fault=fault.message)
            wanted = False
        except (Unavailable, ResourceExhausted):
            return Outcome(job, "pending", delay=FILTER_AGAIN)
        if wanted is True:
            return None
        metrics.FILTERED.inc()
        return Outcome(job, "filtered")

    async def _attempt(self, job: Job, endpoint: Endpoint) -> bool:
        """Send it once; whether it was taken."""
        webhook = endpoint.webhook
        assert webhook is not None
        moment = datetime.now(UTC)
        signers = endpoint.live_signers()
        headers = signed_headers(signers, job.message_id, job.body, moment)
        headers["content-type"] = CONTENT_TYPE
        opened = _span(job)
        if traceparent := opened.traceparent if opened else _passed_on(job):
            headers["traceparent"] = traceparent
        began = time.monotonic()
        if signers:
            status, error, answer_headers, text = await self._call(webhook.url, headers, job.body.encode())
        else:
            status, error, answer_headers, text = 0, "its secret cannot be opened: is the sealing key another?", {}, ""
        verdict = judge(
            status,
            error,
            answer_headers.get("retry-after"),
            attempts=job.attempts,
            schedule=self._schedule,
            chance=random.random(),
            now=datetime.now(UTC),
        )
        took = time.monotonic() - began
        if opened is not None:
            opened.span.set_attribute("http.response.status_code", status)
            opened.close("" if not verdict.error else verdict.status)
        entry = {
            "at": moment.timestamp(),
            "ms": int(took * 1000),
            "url": webhook.url,
            # Whoever reads this may look, but not replay.
            "sent": headers | {"webhook-signature": _masked(headers["webhook-signature"])},
            "status": status,
            "headers": answer_headers,
            "body": text,
            "error": verdict.error,
        }
        outcome = Outcome(job, verdict.status, verdict.delay, moment.timestamp(), _encode(entry).decode())
        metrics.attempted(outcome, verdict, status, took)
        self._end(outcome, verdict)
        return not verdict.error

    async def _call(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str, dict[str, str], str]:
        """Status (0 without an answer), why there is none, and what is kept of the answer."""
        try:
            answer = await self._session.request(
                "POST", url, headers=headers, body=body, timeout=self._attempt_seconds, max_bytes=MOST_ANSWER
            )
        except AnswerTooLarge as large:
            return large.status, "", {}, ""
        except EgressDenied as denied:
            return 0, str(denied)[:500], {}, ""
        except TimeoutError:
            return 0, f"it did not answer within {self._attempt_seconds:g} s", {}, ""
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            return 0, f"the call failed: {_clean(str(fault) or type(fault).__name__)[:300]}", {}, ""
        kept = {
            name.lower(): _clean(value)[:200]
            for name, value in list(answer.headers.items())[:MOST_HEADERS]
            if name.lower() != "set-cookie"
        }
        return answer.status, "", kept, _clean(answer.text()[:MOST_KEPT])


def _span(job: Job) -> Opened | None:
    """A span of the run's trace around an attempt; one that comes late is a trace of its own, with a link."""
    if not tracing() or not job.traceparent or not sampled(job.traceparent):
        return None
    late = job.run_id is not None and time.time() - (job.run_id.int >> 80) / 1000 > LINK_SECONDS
    facts = {"wfe.run": str(job.run_id), "wfe.webhook": str(job.webhook_id), "wfe.attempt": job.attempts + 1}
    given = None if late else job.traceparent
    return open_span("webhook", given, facts, kind=SpanKind.CLIENT, link=job.traceparent if late else None)


def _passed_on(job: Job) -> str:
    """What is sent on when nothing is made of the run's trace here."""
    named = parse(job.traceparent)
    return "" if named is None else traceparent_of(named)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _masked(signatures: str) -> str:
    return " ".join(f"{one.partition(',')[0]},…" for one in signatures.split(" "))
