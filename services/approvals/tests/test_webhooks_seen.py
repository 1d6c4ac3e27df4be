"""What operators see of being told: counts by outcome, how far behind it is, and the run's trace going out with it."""

from __future__ import annotations

import uuid

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from wfe_approvals import metrics, survey
from wfe_approvals.survey import Survey
from wfe_approvals.webhooks import courier
from wfe_servicekit.telemetry import tracing
from wfe_servicekit.testing import until
from wfe_stack.testing_receivers import Receivers
from wfe_stack.testing_rows import add_run
from wfe_store.pool import Database
from wfe_store.traces import save_traces

from .conftest import World
from .webhook_calls import ended, happen, look, subscribe

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OF_THE_RUN = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def spans():
    """Tracing on, into memory."""
    found = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(found))
    tracing.use_tracer(provider.get_tracer("test"))
    yield found
    tracing.use_tracer(None)
    provider.shutdown()


@pytest.fixture
def counted():
    """How much a metric's series have risen since the test began."""
    families = (metrics.ATTEMPTS, metrics.ANSWERS, metrics.DISABLED, metrics.FILTERED)
    before = {family.name: dict(family.values) for family in families}

    def rise(family):
        found = {key: value - before[family.name].get(key, 0) for key, value in family.values.items()}
        return {",".join(key): value for key, value in found.items() if value}

    return rise


async def traced(world: World, traceparent: str) -> uuid.UUID:
    run = await add_run(world.database, world.owners["acme"], world.people["acme", "starter"])
    async with world.database.connection() as connection:
        await save_traces(connection, {run: traceparent})
    return run


async def test_attempts_are_counted_by_what_became_of_them(world: World, receivers: Receivers, counted) -> None:
    lags = metrics.LAG.counts[()].copy()
    receivers.answer("/bad", 500)
    good = await subscribe(world, f"{receivers.url}/good")
    bad = await subscribe(world, f"{receivers.url}/bad")
    nobody = await subscribe(world, "http://127.0.0.1:1/")
    await happen(world)
    for made in (good, bad, nobody):
        await ended(world, made.id)
    # Three attempts each at the two that fail, of which the last is the end.
    assert counted(metrics.ATTEMPTS) == {"delivered": 1, "retried": 4, "failed": 2}
    assert counted(metrics.ANSWERS) == {"2xx": 1, "5xx": 3, "none": 3}
    first_ones = sum(metrics.LAG.counts[()]) - sum(lags)
    assert first_ones == 3, "the lag is that of first attempts"


async def test_a_receiver_that_is_gone_and_a_filter_that_takes_nothing_are_counted(
    world: World, receivers: Receivers, counted
) -> None:
    receivers.answer("/a", 410)
    made = await subscribe(world, f"{receivers.url}/a", filter="event.type == 'run.created'")
    await happen(world)

    async def disabled():
        return (await look(world, made.id)).status == "disabled"

    await until(lambda: bool(counted(metrics.DISABLED)))
    assert await disabled()
    assert counted(metrics.DISABLED) == {"gone": 1}


async def test_how_far_behind_the_telling_is(start, receivers: Receivers) -> None:
    world = await start(webhook_poll_seconds=3600, webhook_schedule=(0, 3600))
    made = await subscribe(world, f"{receivers.url}/a")
    await happen(world)
    async with world.database.connection() as connection:
        await connection.execute("UPDATE events SET at = clock_timestamp() - interval '90 s'")
        await connection.execute(
            "INSERT INTO webhook_messages (id, owner_id, type, body) VALUES ('m', %s, 'run.created', '{}')",
            (world.owners["acme"],),
        )
        due = (
            "INSERT INTO webhook_deliveries (id, owner_id, webhook_id, message_id, next_at, held)"
            " VALUES (gen_random_uuid(), %s, %s, %s, clock_timestamp() + make_interval(secs => %s), %s)"
        )
        for number, (seconds, held) in enumerate([(-40, False), (-20, False), (-99, True), (99, False)]):
            values = (world.owners["acme"], made.id, f"m{number}", seconds, held)
            await connection.execute(due, values)
    await Survey(world.database).run_once()
    assert 89 < survey.OUTBOX_OLDEST.values[()] < 120
    assert survey.DUE.values[()] == 2
    assert 39 < survey.DUE_OLDEST.values[()] < 70
    assert survey.WEBHOOKS.values == {("enabled",): 1, ("failing",): 0, ("paused",): 0, ("disabled",): 0}
    async with world.database.connection() as connection:
        await connection.execute("UPDATE webhooks SET paused_until = clock_timestamp() + interval '1 h'")
    await Survey(world.database).run_once()
    assert (survey.DUE.values[()], survey.WEBHOOKS.values[("paused",)]) == (0, 1)


async def test_a_store_without_webhooks_says_nothing_is_late(database_url: str) -> None:
    database = Database(database_url, name="wfe-test", size=1)
    await database.open()
    try:
        await Survey(database).run_once()
    finally:
        await database.close()
    assert (survey.OUTBOX_OLDEST.values[()], survey.DUE.values[()], survey.DUE_OLDEST.values[()]) == (0, 0, 0)


async def test_an_attempt_is_a_span_of_the_run_s_trace_and_says_so_to_the_receiver(
    world: World, receivers: Receivers, spans
) -> None:
    made = await subscribe(world, f"{receivers.url}/a")
    run = await traced(world, OF_THE_RUN)
    await happen(world, run_id=run)
    (call,) = await receivers.wait("/a", 1)
    await ended(world, made.id)
    (span,) = [one for one in spans.get_finished_spans() if one.name == "webhook"]
    assert call.headers["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert f"{span.parent.span_id:016x}" == OF_THE_RUN[36:52]
    assert span.attributes["wfe.run"] == str(run)
    assert span.attributes["http.response.status_code"] == 204


async def test_what_is_told_late_is_a_trace_of_its_own_that_links_to_the_run_s(
    world: World, receivers: Receivers, spans, monkeypatch
) -> None:
    monkeypatch.setattr(courier, "LINK_SECONDS", -1.0)
    await subscribe(world, f"{receivers.url}/a")
    await happen(world, run_id=await traced(world, OF_THE_RUN))
    (call,) = await receivers.wait("/a", 1)
    await until(lambda: [one for one in spans.get_finished_spans() if one.name == "webhook"])
    (span,) = [one for one in spans.get_finished_spans() if one.name == "webhook"]
    assert span.parent is None
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE]
    assert call.headers["traceparent"][3:35] == f"{span.context.trace_id:032x}" != TRACE


@pytest.mark.parametrize(("kept", "sent"), [(OF_THE_RUN[:-1] + "0", OF_THE_RUN[:-1] + "0"), ("", None)])
async def test_a_trace_that_nobody_keeps_is_passed_on(
    world: World, receivers: Receivers, spans, kept: str, sent: str | None
) -> None:
    await subscribe(world, f"{receivers.url}/a")
    await happen(world, run_id=await traced(world, kept) if kept else None)
    (call,) = await receivers.wait("/a", 1)
    assert call.headers.get("traceparent") == sent
    assert not [one for one in spans.get_finished_spans() if one.name == "webhook"]
