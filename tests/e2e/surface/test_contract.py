"""The contract as clients have it: exact paths, statuses and shapes."""

from __future__ import annotations

import re
import uuid
from datetime import datetime

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from wfe_stack.rest import Refused
from wfe_stack.waiting import wait_for

RUNS = "/api/v1/workflows"
TEMPLATES = "/api/v1/templates"
SLOW = """
name: {name}
variables: {{seconds: {{type: number, default: 30}}}}
steps:
  - {{id: work, call: {{handler: sleep, input: {{seconds: "${{{{ vars.seconds }}}}"}}}}}}
"""
FAULTY = """name: {name}
steps:
  - id: first
    call: {{handler: no-such-handler}}
  - id: second
    needs: [frist]
    set: {{a: "${{{{ steps.first.output. }}}}"}}
"""


def name():
    return f"c{uuid.uuid4().hex}"


async def published(rest, source):
    template = await rest.post(TEMPLATES, {"source": source})
    await rest.post(f"{TEMPLATES}/{template['id']}/publish")
    return template["id"]


def is_moment(text):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text), text
    return datetime.fromisoformat(text)


async def test_a_start_answers_201_and_pending(api, things):
    given = {name: value for name, value in things.fields("StartWorkflow").items() if name != "signal"}
    answer = await api.call("StartWorkflow", given)
    run = answer.json()
    assert answer.status == 201
    assert uuid.UUID(run["id"]).version == 7
    assert (run["status"], run["trigger_type"], run["runner"]) == ("pending", "api", "hibernating")
    assert run["template"] == {"id": things.ids["template"], "name": things.ids["template_name"], "version": 1}
    assert run["input"] == {"text": "b", "data": {"n": 1}}
    assert run["labels"] == {"team": "a"}
    is_moment(run["created_at"])
    assert "heartbeat_at" not in run


async def test_a_start_answers_with_the_end_when_asked_to_wait(wanda):
    source = f"name: {name()}\nsteps:\n  - id: a\n    set: {{n: 1}}\noutput: ${{{{ steps.a.output.n }}}}\n"
    started = await wanda.start({"template_id": await published(wanda, source), "wait_seconds": 30})
    assert (started["status"], started["output"], started["events"]) == ("completed", 1, [])
    again = await wanda.get(f"{RUNS}/{started['id']}", view="basic")
    assert again == started


async def test_a_run_has_its_runner_while_a_step_is_held(wanda):
    run = await wanda.start({"template_id": await published(wanda, SLOW.format(name=name()))})
    path = f"{RUNS}/{run['id']}"

    async def held():
        found = await wanda.get(path)
        return found if found.get("heartbeat_at") else None

    active = await wait_for(held)
    assert (active["status"], active["runner"]) == ("running", "active")
    (step,) = active["steps"]
    assert (step["path"], step["status"], step["kind"]) == ("work", "running", "call")
    assert step["executor"]
    first = is_moment(active["heartbeat_at"])

    async def later():
        return is_moment((await wanda.get(path))["heartbeat_at"]) > first

    await wait_for(later, what="a later heartbeat")
    await wanda.post(f"{path}/cancel", {"reason": "seen enough"})

    async def released():
        found = await wanda.get(path)
        return found if found["runner"] == "hibernating" else None

    ended = await wait_for(released)
    assert ended["status"] == "cancelled"
    assert "heartbeat_at" not in ended
    assert [event["seq"] for event in ended["events"]] == list(range(1, ended["events_total"] + 1))
    assert all(event["actor"] and is_moment(event["at"]) for event in ended["events"])
    assert "seen enough" in [event["reason"] for event in ended["events"]]


async def test_a_run_carries_its_approvals(wanda, things):
    run = await wanda.get(f"{RUNS}/{things.ids['run']}")
    assert (run["status"], run["runner"]) == ("waiting_approval", "hibernating")
    (gate,) = run["approvals"]
    assert gate["id"] == things.ids["approval"]
    assert (gate["step"], gate["status"], gate["title"]) == ("review", "open", "Go on?")
    assert gate["approvers"] == {"users": [], "groups": [], "roles": ["approver"]}
    assert gate["starter_excluded"] is True
    assert (gate["can_decide"], bool(gate["why_not"])) == (False, True)
    (step,) = [step for step in run["steps"] if step["path"] == "review"]
    assert (step["status"], step["approval_id"]) == ("waiting_approval", gate["id"])


async def test_lists_have_a_limit_and_an_exact_total(wanda):
    label = name()
    template = await published(wanda, f"name: {name()}\nsteps:\n  - {{id: a, set: {{b: 1}}}}\n")
    made = [
        (await wanda.start({"template_id": template, "labels": {label: "x"} if n else {label: "y"}}))["id"]
        for n in range(3)
    ]
    page = await wanda.get(RUNS, label=f"{label}=x", limit=1, offset=1)
    assert ([run["id"] for run in page["workflows"]], page["total"], page["total_is_capped"]) == ([made[1]], 2, False)
    assert (page["limit"], page["offset"]) == (1, 1)
    page = await wanda.get(RUNS, template_id=template)
    assert ([run["id"] for run in page["workflows"]], page["limit"]) == (made[::-1], 50)
    assert (await wanda.get(RUNS, template_id=template, limit=1_000))["limit"] == 200
    with pytest.raises(Refused, match="must be one of pending, ") as refusal:
        await wanda.get(RUNS, status="ended")
    assert refusal.value.status == 400


async def test_a_template_from_its_draft_to_its_deprecation(wanda):
    called = name()
    faulty, good = FAULTY.format(name=called), SLOW.format(name=called)

    # A draft is kept with its faults, and each fault says where it is and what would mend it.
    draft = await wanda.call("POST", TEMPLATES, body={"source": faulty})
    assert (draft["name"], draft["status"], draft["source"]) == (called, "draft", faulty)
    validated = await wanda.post(f"{TEMPLATES}/validate", {"source": faulty})
    assert validated.keys() == {"faults"}
    assert validated["faults"] == draft["faults"]
    places = {fault["path"]: (fault["line"], fault["column"]) for fault in draft["faults"]}
    assert places["steps[0].call.handler"] == (4, 21)
    assert places["steps[1].needs[0]"] == (6, 13)
    for fault in draft["faults"]:
        assert fault.keys() == {"path", "line", "column", "reason", "mend"}
        assert fault["reason"]
    assert any("first" in fault["mend"] for fault in draft["faults"] if fault["path"] == "steps[1].needs[0]")

    # It cannot be published or started; the refusal names every fault.
    path = f"{TEMPLATES}/{draft['id']}"
    with pytest.raises(Refused) as refusal:
        await wanda.post(f"{path}/publish")
    assert (refusal.value.status, refusal.value.reason) == (400, "TEMPLATE_FAULTS")
    assert {each.field for each in refusal.value.violations} == places.keys()
    with pytest.raises(Refused) as refusal:
        await wanda.start({"template_id": draft["id"]})
    assert refusal.value.status == 409

    # Mended and published twice; versions stay as they were written.
    assert (await wanda.put(path, {"source": good}))["faults"] == []
    first = await wanda.post(f"{path}/publish")
    assert (first["template_id"], first["name"], first["version"]) == (draft["id"], called, 1)
    again = good + "# changed\n"
    await wanda.put(path, {"source": again})
    assert (await wanda.post(f"{path}/publish"))["version"] == 2
    versions = (await wanda.get(f"{path}/versions"))["versions"]
    assert [each["version"] for each in versions] == [2, 1]
    assert (await wanda.get(f"{path}/versions/1"))["source"] == good
    assert (await wanda.get(f"{path}/versions/2"))["source"] == again
    found = await wanda.get(path)
    assert (found["status"], found["latest_version"], found["source"]) == ("published", 2, again)
    assert (await wanda.get(TEMPLATES, name=called))["templates"][0]["id"] == draft["id"]

    # A start takes the newest version unless it names one.
    runs = [
        await wanda.start({"template_id": draft["id"], "input": {"seconds": 0}} | more) for more in ({}, {"version": 1})
    ]
    assert [run["template"]["version"] for run in runs] == [2, 1]
    with pytest.raises(Refused) as refusal:
        await wanda.start({"template_id": draft["id"], "version": 3})
    assert refusal.value.status == 404

    # Deprecated: no more runs, and those there are go on.
    assert (await wanda.post(f"{path}/deprecate"))["status"] == "deprecated"
    with pytest.raises(Refused) as refusal:
        await wanda.start({"template_id": draft["id"]})
    assert refusal.value.status == 409
    assert (await wanda.wait_ended(runs[0]["id"]))["status"] == "completed"


async def test_a_start_that_does_not_fit_names_every_violation(wanda, api, things):
    body = {"text": 5, "nonsense": 1, "data": {"n": 2**53 + 1}}
    answer = await api.call("StartWorkflow", {"template_id": things.ids["template"], "input": body})
    assert answer.refusal(400) == ""
    assert "2^53" in answer.body.decode()
    with pytest.raises(Refused) as refusal:
        await wanda.start({"template_id": things.ids["template"], "input": {"text": 5, "nonsense": 1}})
    assert {each.field for each in refusal.value.violations} == {"input.text", "input.nonsense"}


async def test_health_is_public_and_readiness_names_the_parts_that_are_down(stack, api):
    health = await api.send("GET", "/healthz", None, {"authorization": ""})
    assert (health.status, health.json()) == (200, {"status": "ok"})
    ready = await api.send("GET", "/readyz", None, {"authorization": ""})
    assert ready.status == 200
    assert ready.json()["status"] == "ready"
    assert set(ready.json()["parts"].values()) == {"ok"}
    assert {"store", "bus", "approvals", "executors"} <= ready.json()["parts"].keys()
    down = {"executor": "executors", "approvals": "approvals"}
    for part in down:
        await stack.kill(part)

    async def told():
        answer = await api.send("GET", "/readyz")
        found = answer.status == 503 and all(name in answer.json()["message"] for name in down.values())
        return answer if found else None

    try:
        answer = await wait_for(told, what="a 503 that names both")
        assert answer.refusal(503) == ""
    finally:
        for part in ("approvals", "executor"):
            await stack.restart(part, ready=False)
        await stack.ready()


@pytest.mark.parametrize("part", ["scheduler", "approvals", "gateway"])
async def test_grpc_health_and_reflection(stack, part):
    address = stack.grpc if part == "gateway" else stack.service(part)
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "ready"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)

        async def ask(**question):
            call = reflection.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=20
            )
            return await call.read()

        listed = (await ask(list_services="")).list_services_response.service
        names = {each.name for each in listed}
        wanted = {"approvals": {"ApprovalService", "IdentityService"}}.get(
            part, {"WorkflowService", "TemplateService", "SystemService"}
        )
        assert {f"wfe.api.v1.{each}" for each in wanted} <= names
        symbol = f"wfe.api.v1.{min(wanted)}"
        files = (await ask(file_containing_symbol=symbol)).file_descriptor_response.file_descriptor_proto
        told = [descriptor_pb2.FileDescriptorProto.FromString(raw) for raw in files]
        assert min(wanted) in [service.name for file in told for service in file.service]
