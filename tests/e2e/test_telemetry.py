"""Seeing inside: one trace through every part, metrics of every part, and telemetry that fails nobody."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack
from wfe_stack.testing import TEST_SETTINGS
from wfe_stack.waiting import wait_for

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLS_OUT = """
name: calls-out
variables:
  url: {type: string, required: true}
  token: {type: string, sensitive: true}
steps:
  - {id: work, call: {handler: echo, input: {secret: "${{ vars.token }}", text: "payload-never-shown"}}}
  - {id: call, http: {method: GET, url: "${{ vars.url }}"}}
"""


class Collector:
    """An OpenTelemetry collector that keeps what it is sent, and a server that steps call."""

    def __init__(self) -> None:
        self.spans = []
        self.lines = []
        self.metrics = defaultdict(set)
        self.called_with = []
        self._runner = None
        self.port = 0

    async def start(self, port=0):
        app = web.Application()
        app.router.add_post("/v1/traces", self._traces)
        app.router.add_post("/v1/logs", self._logs)
        app.router.add_post("/v1/metrics", self._metrics)
        app.router.add_get("/target", self._target)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self):
        await self._runner.cleanup()

    async def _body(self, request):
        return await request.read()  # aiohttp undoes the compression

    async def _traces(self, request):
        for found in ExportTraceServiceRequest.FromString(await self._body(request)).resource_spans:
            service = next(a.value.string_value for a in found.resource.attributes if a.key == "service.name")
            for scope in found.scope_spans:
                self.spans += [(service, span) for span in scope.spans]
        return web.Response()

    async def _logs(self, request):
        for found in ExportLogsServiceRequest.FromString(await self._body(request)).resource_logs:
            for scope in found.scope_logs:
                self.lines += [record.body.string_value for record in scope.log_records]
        return web.Response()

    async def _metrics(self, request):
        for found in ExportMetricsServiceRequest.FromString(await self._body(request)).resource_metrics:
            service = next(a.value.string_value for a in found.resource.attributes if a.key == "service.name")
            for scope in found.scope_metrics:
                self.metrics[service] |= {metric.name for metric in scope.metrics}
        return web.Response()

    async def _target(self, request):
        self.called_with.append(request.headers.get("traceparent"))
        return web.json_response({"ok": True})


@pytest.fixture(scope="module")
async def collector():
    found = Collector()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture(scope="module")
async def seen(collector):
    """A stack whose parts all send to the collector and serve metrics."""
    folder = Path(tempfile.mkdtemp(prefix="wfe-seen-"))
    endpoint = f"http://127.0.0.1:{collector.port}"
    settings = StackSettings(
        folder=folder / "data",
        postgres=TEST_SETTINGS,
        metrics=True,
        restarts=False,
        environment={
            "WFE_OTLP_ENDPOINT": endpoint,
            "WFE_GATEWAY_OTLP_ENDPOINT": endpoint,
            "WFE_GATEWAY_TRACE_RATIO": "1",
            "WFE_SURVEY_SECONDS": "0.2",
        },
        executor_environment={"WFE_EGRESS_ALLOW": "127.0.0.1"},
    )
    async with Stack(settings) as stack:
        yield stack
    shutil.rmtree(folder, ignore_errors=True)


async def _publish(rest, source):
    template = await rest.post("/api/v1/templates", {"source": source})
    await rest.post(f"/api/v1/templates/{template['id']}/publish")
    return template["id"]


async def _start(stack, template, given):
    headers = {
        "authorization": f"Bearer {stack.keys['sam']}",
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    }
    body = {"template_id": template, "input": given}
    url = f"{stack.url}/api/v1/workflows"
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        assert answer.status == 201
        return (await answer.json())["id"]


async def test_one_trace_from_the_call_to_what_a_step_calls(seen, collector):
    async with Rest(seen.url, seen.keys["sam"]) as sam:
        template = await _publish(sam, CALLS_OUT)
        given = {"url": f"http://127.0.0.1:{collector.port}/target", "token": "secret-never-shown"}
        run = await _start(seen, template, given)
        assert (await sam.wait_ended(run))["status"] == "completed"

    def of_trace():
        return [(service, span) for service, span in collector.spans if span.trace_id.hex() == TRACE]

    async def complete():
        services = {service for service, _ in of_trace()}
        names = [span.name for _, span in of_trace()]
        return {"wfe-gateway", "wfe-scheduler", "wfe-executor"} <= services and names.count("decide") >= 3

    try:
        await wait_for(complete, seconds=20)
    except AssertionError:
        raise AssertionError(str([(service, span.name) for service, span in of_trace()])) from None
    by_id = {span.span_id: (service, span) for service, span in of_trace()}

    def parents(span):
        service, found = by_id.get(span.parent_span_id, ("caller", None))
        return [service] if found is None else [service, *parents(found)]

    steps = [span for service, span in of_trace() if service == "wfe-executor"]
    assert sorted(span.name for span in steps) == ["step call", "step http"]
    for span in steps:
        assert parents(span) == ["wfe-scheduler", "wfe-gateway", "caller"]
    # What the step called is told of the very span it ran in.
    http = next(span for span in steps if span.name == "step http")
    assert collector.called_with == [f"00-{TRACE}-{http.span_id.hex()}-01"]
    everything = str([span for _, span in collector.spans]) + "".join(collector.lines)
    assert "never-shown" not in everything


async def test_every_part_serves_its_metrics(seen):
    found = {}
    async with aiohttp.ClientSession() as session:
        for part, url in seen.metrics.items():
            async with session.get(url) as answer:
                assert answer.status == 200, part
                families = text_string_to_metric_families(await answer.text())
                found[part] = {sample.name: sample.value for family in families for sample in family.samples}
            async with session.get(url.replace("/metrics", "/stats")) as answer:
                assert answer.status == 404, f"{part} shows more than its metrics"
    assert set(found) == {"gateway", "scheduler", "approvals", "executor"}
    assert found["scheduler"]["wfe_cycle_seconds_count"] > 0
    assert found["executor"]["wfe_executor_slots"] > 0
    assert "wfe_gates_open" in found["approvals"]
    assert any(name.startswith("envoy_http_downstream_rq") for name in found["gateway"])


async def test_counts_are_those_of_the_runs(seen):
    async with Rest(seen.url, seen.keys["sam"]) as sam:
        template = await _publish(sam, "name: one\nsteps: [{id: a, call: {handler: echo, input: {}}}]\n")

        async def value(name, **labels):
            async with aiohttp.ClientSession() as session, session.get(seen.metrics["scheduler"]) as answer:
                families = text_string_to_metric_families(await answer.text())
            found = [
                s.value for f in families for s in f.samples if s.name == name and labels.items() <= s.labels.items()
            ]
            return found[0] if found else 0

        names = (
            ("wfe_starts_total", {"trigger": "api"}),
            ("wfe_steps_total", {"outcome": "completed"}),
            ("wfe_runs_ended_total", {"status": "completed"}),
        )
        before = [await value(name, **labels) for name, labels in names]
        for _ in range(3):
            run = await sam.start({"template_id": template, "input": {}})
            await sam.wait_ended(run["id"])
        assert [await value(name, **labels) for name, labels in names] == [one + 3 for one in before]

        async def surveyed():
            return await value("wfe_runs", status="completed") >= 3 and await value("wfe_stuck_runs") == 0

        await wait_for(surveyed)


async def test_a_collector_that_is_gone_costs_nobody_a_call(seen, collector):
    port = collector.port
    await collector.stop()
    try:
        async with Rest(seen.url, seen.keys["sam"]) as sam:
            template = (await sam.get("/api/v1/templates", name="one"))["templates"][0]["id"]
            runs = await asyncio.gather(*(sam.start({"template_id": template, "input": {}}) for _ in range(20)))
            for run in runs:
                assert (await sam.wait_ended(run["id"]))["status"] == "completed"
    finally:
        await collector.start(port)


async def test_metrics_and_logs_are_sent_too(seen, collector):
    for part in ("executor", "scheduler", "approvals"):
        await seen.terminate(part)  # the end sends what is left
    for service in ("wfe-scheduler", "wfe-approvals", "wfe-executor"):
        assert "wfe_loop_lag_seconds" in collector.metrics[service], service
    assert any('"service":"scheduler"' in line for line in collector.lines)
