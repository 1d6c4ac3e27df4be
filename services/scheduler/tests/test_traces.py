"""The trace of a run: saved after the commit, found again, and linked to when the run goes on later."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from wfe_engine import commands as cmd
from wfe_engine.errors import Unavailable
from wfe_scheduler.clock import StoreClock
from wfe_scheduler.traces import LINK_SECONDS, Traces
from wfe_servicekit.calls import Call, call_var
from wfe_servicekit.observed import observed
from wfe_servicekit.telemetry import tracing
from wfe_store.traces import load_traces

CALL = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


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
async def clock(database):
    made = StoreClock(database)
    await made.sample()
    return made


async def started(rig, database, clock):
    """A run that was started by a call of CALL's trace, and the traces that saw it."""
    traces = Traces(database, clock)
    seen = rig.committed
    rig.cycle._committed = lambda outcome: (seen(outcome), traces.committed(outcome))
    submit = rig.submit

    def begin(arguments, **more):
        if "entry" in more:
            opened = tracing.open_span("StartWorkflow", CALL, {})
            traces.begin(arguments[0])
            if opened is not None:
                opened.close()
        return submit(arguments, **more)

    rig.submit = begin
    run, done = rig.start()
    await done
    return run, traces


async def test_a_run_is_found_again_in_its_trace(make_rig, make_chain, database, clock, spans):
    run, traces = await started(make_rig(make_chain("call")), database, clock)
    kept = traces.of(run)
    assert kept[3:35] == CALL[3:35]
    await traces.save()
    other = Traces(database, clock)
    await other.load([run])
    assert other.of(run) == kept
    assert [span.name for span in spans.get_finished_spans()] == ["StartWorkflow", "decide"]


async def test_a_run_that_goes_on_later_links_to_its_first_trace(make_rig, make_chain, database, clock, spans):
    run, traces = await started(make_rig(make_chain("call")), database, clock)
    await traces.save()
    clock._offset += LINK_SECONDS + 60
    later = Traces(database, clock)
    await later.load([run])
    assert later.of(run)[3:35] != CALL[3:35]
    on = spans.get_finished_spans()[-1]
    assert on.name == "run goes on"
    assert [f"{link.context.trace_id:032x}" for link in on.links] == [CALL[3:35]]


async def test_a_trace_that_nobody_keeps_is_passed_on_and_costs_no_span(
    make_rig, make_chain, database, clock, spans, monkeypatch
):
    made = []
    monkeypatch.setattr(tracing, "_tracer", SimpleNamespace(start_span=lambda *a, **k: made.append(a)))
    unkept = CALL[:-1] + "0"
    rig = make_rig(make_chain("call"))
    traces = Traces(database, clock)
    seen, submit = rig.committed, rig.submit
    rig.cycle._committed = lambda outcome: (seen(outcome), traces.committed(outcome))

    async def called(_raw, _context):
        def begin(arguments, **more):
            traces.begin(arguments[0])
            return submit(arguments, **more)

        rig.submit = begin
        run, done = rig.start()
        await done
        return run

    token = call_var.set(Call("/wfe.api.v1.WorkflowService/StartWorkflow", (("traceparent", unkept),)))
    try:
        run = await observed("/wfe.api.v1.WorkflowService/StartWorkflow", called)(b"", None)
    finally:
        call_var.reset(token)
    assert traces.of(run) == unkept
    assert made == []
    await traces.save()
    async with database.connection() as connection:
        assert await load_traces(connection, [run]) == {}


async def test_a_run_that_a_run_starts_goes_on_in_its_trace(make_rig, make_chain, database, clock, spans):
    run, traces = await started(make_rig(make_chain("call")), database, clock)
    await traces.save()
    elsewhere, child = Traces(database, clock), UUID(int=clock_id(clock))
    await elsewhere.adopt(child, run)
    assert elsewhere.of(child) == traces.of(run)
    await elsewhere.adopt(child, UUID(int=clock_id(clock) + 1))
    assert elsewhere.of(child) == traces.of(run), "a parent without a trace takes none away"


def clock_id(clock):
    return int(clock.now() * 1000) << 80


async def test_a_run_without_a_trace_is_looked_up_once(database, clock, spans, monkeypatch):
    asked = []

    async def load(_connection, runs):
        asked.append(list(runs))
        return {}

    monkeypatch.setattr("wfe_scheduler.traces.load_traces", load)
    old, young = (UUID(int=int((clock.now() - age) * 1000) << 80) for age in (60.0, 0.0))
    traces = Traces(database, clock)
    await traces.load([old, young])
    await traces.load([old, young])
    # The young one's may be on its way to the store.
    assert asked == [[old, young], [young]]


async def test_without_tracing_nothing_is_kept(make_rig, make_chain, database, clock):
    run, traces = await started(make_rig(make_chain("call")), database, clock)
    await traces.save()
    assert traces.of(run) == ""
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM run_traces")
        assert (await cursor.fetchone())[0] == 0


async def test_a_store_that_is_down_costs_the_trace_and_nothing_else(make_rig, make_chain, database, clock, spans):
    run, traces = await started(make_rig(make_chain("call")), database, clock)

    class Down:
        def connection(self):
            raise Unavailable("down")

    traces._database = Down()
    await traces.save()
    fresh = Traces(Down(), clock)
    await fresh.load([run])
    assert fresh.of(run) == ""


async def test_a_commit_links_to_the_call_that_brought_it_about(make_rig, make_chain, database, clock, spans):
    rig = make_rig(make_chain("call"))
    run, traces = await started(rig, database, clock)
    approver = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"
    await traces.save()
    for given, command in ((approver, cmd.Pause()), (CALL, cmd.Resume()), (approver[:-1] + "0", cmd.Pause())):
        linked = [approver[3:35]] if given == approver else []
        await traces.load([run])  # a paused run is in nobody's memory
        traces.caused(run, given)
        before = len(spans.get_finished_spans())
        await rig.do(run, command)
        (decided,) = spans.get_finished_spans()[before:]
        assert f"{decided.context.trace_id:032x}" == CALL[3:35]
        assert [f"{link.context.trace_id:032x}" for link in decided.links] == linked, given


async def test_a_run_that_is_parked_before_its_trace_is_saved_keeps_it(make_rig, make_chain, database, clock, spans):
    rig = make_rig(make_chain("call"))
    rig.room = False
    run, traces = await started(rig, database, clock)
    told = []
    traces.on_unsaved = lambda: told.append(run)
    await rig.do(run, cmd.Pause())
    traces._known.clear()  # as a parked run's is
    assert told == [run], "whoever saves is woken"
    await traces.load([run])
    assert traces.of(run)[3:35] == CALL[3:35]
    await traces.save()
    fresh = Traces(database, clock)
    await fresh.load([run])
    assert fresh.of(run)[3:35] == CALL[3:35]
