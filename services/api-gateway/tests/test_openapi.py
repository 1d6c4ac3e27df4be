"""The OpenAPI document says what the gateway does."""

from __future__ import annotations

import json
import re

import pytest
from openapi_spec_validator import validate
from wfe_gateway.openapi import document_file

DOCUMENT = json.loads(document_file().read_text())
OPERATIONS = {
    operation["operationId"]: (verb.upper(), path, operation)
    for path, verbs in DOCUMENT["paths"].items()
    for verb, operation in verbs.items()
}


def success(operation):
    (status,) = (status for status in operation["responses"] if status < "300")
    return status, operation["responses"][status]["content"]


def schema_of(reference):
    return DOCUMENT["components"]["schemas"][reference["$ref"].rpartition("/")[2]]


def test_the_document_is_valid():
    validate(DOCUMENT)


#: Parts of paths that are whole numbers.
NUMBERS = {"version", "no"}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
async def test_every_call_of_the_document_is_served(gateway, scheduler, approvals, name):
    verb, path, operation = OPERATIONS[name]
    filled = re.sub(r"\{(\w+)\}", lambda match: "1" if match[1] in NUMBERS else match[1], path)
    query = [(one["name"], one["schema"]) for one in operation.get("parameters", []) if one["in"] == "query"]
    values = "&".join(f"{key}={value_for(schema)}" for key, schema in query)
    body = {} if "requestBody" in operation else None
    reply = await gateway.call(verb, f"{filled}?{values}" if values else filled, body)
    (call,) = [*scheduler.calls, *approvals.calls]
    assert call.method == name
    for parameter in re.findall(r"\{(\w+)\}", path):
        assert str(getattr(call.request, parameter)) == ("1" if parameter in NUMBERS else parameter)
    _, content = success(operation)
    if "application/json" in content:
        schema = schema_of(content["application/json"]["schema"])
        assert set(schema["required"]) <= set(reply.json) <= set(schema["properties"])


def value_for(schema):
    if schema.get("format") == "date-time":
        return "2026-01-02T03:04:05Z"
    return {"integer": "1", "boolean": "true"}.get(schema["type"], "x")


def test_what_makes_something_answers_201():
    made = {name for name, (_, _, operation) in OPERATIONS.items() if success(operation)[0] == "201"}
    create = {name for name in OPERATIONS if name.startswith("Create")}
    named = {"StartWorkflow", "ForkWorkflow", "RerunWorkflow", "RotateKey", "IssueLink", "RotateWebhookSecret"} | {
        "TriggerSchedule"
    }
    assert made == create | named


def test_what_must_not_happen_twice_takes_an_idempotency_key():
    takes = {
        name
        for name, (_, _, operation) in OPERATIONS.items()
        if any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
    }
    assert takes == {"StartWorkflow", "ForkWorkflow", "RerunWorkflow", "SignalWorkflow"}


def test_a_watch_is_a_stream_of_events():
    _, content = success(OPERATIONS["WatchWorkflow"][2])
    assert list(content) == ["text/event-stream"]


def test_the_start_of_a_run():
    operation = OPERATIONS["StartWorkflow"][2]
    body = schema_of(operation["requestBody"]["content"]["application/json"]["schema"])
    assert body["required"] == ["template_id"]
    assert body["properties"]["input"]["type"] == "object"
    assert body["properties"]["labels"]["additionalProperties"] == {"type": "string"}
    run = DOCUMENT["components"]["schemas"]["Workflow"]
    assert "waiting_approval" in run["properties"]["status"]["enum"]
    assert run["properties"]["created_at"]["format"] == "date-time"
    assert "type" not in run["properties"]["output"]
    assert "output" not in run["required"]
    assert set(operation["responses"]) >= {"400", "401", "403", "409", "413", "429"}


def test_path_fields_are_not_in_the_body():
    operation = OPERATIONS["ApproveWorkflow"][2]
    body = schema_of(operation["requestBody"]["content"]["application/json"]["schema"])
    assert set(body["properties"]) == {"comment", "expected_digest"}
    assert operation["requestBody"]["required"] is False


def test_everything_has_words():
    for name, (_, _, operation) in OPERATIONS.items():
        assert operation["summary"], name
        assert all(one["description"] for one in operation.get("parameters", [])), name
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name


def test_only_readiness_and_calls_with_their_own_proof_need_no_key():
    open_to_all = {name for name, (_, _, operation) in OPERATIONS.items() if operation.get("security") == []}
    links = {"GetLink", "DecideByLink", "ShowLink", "AnswerLink"}
    assert open_to_all == {"AnswerCallback", "GetReadiness", "ReceiveHook", *links}
    assert DOCUMENT["security"] == [{"bearerAuth": []}]
