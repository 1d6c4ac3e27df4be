"""Seeing inside: one trace through every part, metrics of every part, and telemetry that fails nobody."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from wfe_approvals.webhooks.signing import Signer, signed_headers
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
        self.told_with = {}
        self._runner = None
        self.port = 0

    async def start(self, port=0):
        app = web.Application()
        app.router.add_post("/v1/traces", self._traces)
        app.router.add_post("/v1/logs", self._logs)
        app.router.add_post("/v1/metrics", self._metrics)
        app.router.add_get("/target", self._target)
        app.router.add_post("/told", self._told)
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

    async def _told(self, request):
        event = await request.json()
        self.told_with[event["type"]] = request.headers.get("traceparent")
        return web.Response(status=204)

    def of_trace(self, trace):
        return [(service, span) for service, span in self.spans if span.trace_id.hex() == trace]


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
            "WFE_EGRESS_ALLOW": "127.0.0.1",
            "WFE_WEBHOOK_HTTP": "true",
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


async def _post(stack, path, body, trace, *, key="sam", headers=None):
    own = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "content-type": "application/json"}
    headers = own | (headers or {})
    if key:
        headers["authorization"] = f"Bearer {stack.keys[key]}"
    given = {"data": body} if isinstance(body, bytes) else {"json": body}
    url = f"{stack.url}/api/v1/{path}"
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers, **given) as answer:
        assert answer.status in (200, 201), await answer.text()
        return await answer.json()


async def _start(stack, template, given, trace=TRACE):
    return (await _post(stack, "workflows", {"template_id": template, "input": given}, trace))["id"]


async def test_one_trace_from_the_call_to_what_a_step_calls(seen, collector):
    async with Rest(seen.url, seen.keys["sam"]) as sam:
        template = await _publish(sam, CALLS_OUT)
        given = {"url": f"http://127.0.0.1:{collector.port}/target", "token": "secret-never-shown"}
        run = await _start(seen, template, given)
        assert (await sam.wait_ended(run))["status"] == "completed"

    def of_trace():
        return collector.of_trace(TRACE)

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


ASKS = """
name: asks
steps:
  - {id: ask, approval: {title: "Go on?", approvers: {roles: [approver]}}}
"""


async def test_a_decision_is_linked_to_and_what_receivers_are_told_is_in_the_run_s_trace(seen, collector):
    run_trace, decision_trace = "1" * 32, "2" * 32
    async with Rest(seen.url, seen.keys["root"]) as root, Rest(seen.url, seen.keys["sam"]) as sam:
        url = f"http://127.0.0.1:{collector.port}/told"
        await root.post("/api/v1/webhooks", {"url": url, "event_types": ["run.*"]})
        run = await _start(seen, await _publish(sam, ASKS), {}, run_trace)

        async def gate():
            return (await sam.get(f"/api/v1/workflows/{run}"))["approvals"]

        gates = await wait_for(gate)
        await _post(seen, f"workflows/{run}/approvals/{gates[0]['id']}/approve", {}, decision_trace, key="ada")
        assert (await sam.wait_ended(run))["status"] == "completed"

    def links():
        return {link.trace_id.hex() for _, span in collector.of_trace(run_trace) for link in span.links}

    async def complete():
        names = [span.name for _, span in collector.of_trace(run_trace)]
        deciding = {service for service, _ in collector.of_trace(decision_trace)}
        told = {"run.created", "run.completed"} <= set(collector.told_with)
        return names.count("webhook") >= 2 and told and links() and deciding == {"wfe-gateway", "wfe-approvals"}

    try:
        await wait_for(complete, seconds=20)
    except AssertionError:
        seen_spans = [
            (service, span.name) for t in (run_trace, decision_trace) for service, span in collector.of_trace(t)
        ]
        raise AssertionError(f"{seen_spans} {collector.told_with} {links()}") from None
    assert links() == {decision_trace}
    told = {span.span_id.hex() for _, span in collector.of_trace(run_trace) if span.name == "webhook"}
    for kind in ("run.created", "run.completed"):
        _, trace, span, _ = collector.told_with[kind].split("-")
        assert (trace, span in told) == (run_trace, True), kind


async def test_a_run_that_a_hook_starts_goes_on_in_the_trace_of_its_call(seen, collector):
    trace = "3" * 32
    async with Rest(seen.url, seen.keys["sam"]) as sam:
        template = await _publish(sam, "name: hooked\nsteps: [{id: a, call: {handler: echo, input: {}}}]\n")
        hook = await sam.post("/api/v1/hooks", {"template_id": template})
        body = b"{}"
        headers = signed_headers([Signer(hook["secret"])], "msg_1", body.decode(), datetime.now(UTC))
        said = await _post(seen, f"hooks/{hook['id']}", body, trace, key="", headers=headers)
        assert (await sam.wait_ended(said["workflow_id"]))["status"] == "completed"

    async def complete():
        return {service for service, _ in collector.of_trace(trace)} == {
            "wfe-gateway", "wfe-approvals", "wfe-scheduler", "wfe-executor",
        }  # fmt: skip

    await wait_for(complete, seconds=20)


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
