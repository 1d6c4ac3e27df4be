"""Every call of the API, once as it should be: what it answers is what the OpenAPI document and the protos say."""

from __future__ import annotations

import json

import grpc
import pytest
from calls import CALLS, PUBLIC, Api, Things, message_of, request_type, response_type
from good_calls import SAMPLES
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

METHODS = sorted(CALLS)


def test_every_method_has_a_sample_with_every_field():
    assert SAMPLES.keys() == CALLS.keys()
    for method, sample in SAMPLES.items():
        fields = {field.name for field in request_type(method).DESCRIPTOR.fields}
        assert sample.fields.keys() == fields, method


@pytest.fixture(scope="session")
async def document(api):
    answer = await api.send("GET", "/api/v1/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    validate(found := answer.json())
    return found


async def test_the_served_document_has_every_call_and_needs_no_key(stack, http, document):
    assert (await Api(http, stack.url, None).send("GET", "/api/v1/openapi.json")).status == 200
    told = {
        (verb.upper(), path, operation["operationId"])
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    }
    assert told == {(call.verb, call.path, method) for method, call in CALLS.items()}


async def prepared(new_things, first: Api, second: Api, method: str) -> tuple[Things, Api]:
    """Things the sample is accepted with, and who calls."""
    things = await new_things()
    for earlier in SAMPLES[method].before:
        caller = second if SAMPLES[earlier].as_second else first
        assert (await caller.call(earlier, things.fields(earlier))).status == 200
    return things, second if SAMPLES[method].as_second else first


@pytest.mark.parametrize("method", METHODS)
async def test_over_rest(api, http, people, new_things, document, method):
    things, caller = await prepared(new_things, api, Api(http, api.url, people["wilma"]), method)
    answer = await caller.call(method, things.fields(method), things.headers(method))
    operation = document["paths"][CALLS[method].path][CALLS[method].verb.lower()]
    (status,) = (status for status in operation["responses"] if status < "300")
    assert (str(answer.status), answer.body[:500]) == (status, answer.body[:500])
    content = operation["responses"][status]["content"]
    (kind,) = content
    assert answer.headers["content-type"] == kind
    if kind == "application/json":
        schema = {**content[kind]["schema"], "components": document["components"]}
        Draft202012Validator(schema).validate(json.loads(answer.body))


@pytest.mark.parametrize("method", METHODS)
async def test_over_grpc(stack, api, http, people, new_things, method):
    things, caller = await prepared(new_things, api, Api(http, api.url, people["wilma"]), method)
    call = CALLS[method]
    metadata = [] if method in PUBLIC else [("authorization", f"Bearer {caller.key}")]
    metadata += things.headers(method).items()
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        make = channel.unary_stream if call.method.server_streaming else channel.unary_unary
        stub = make(
            f"/{call.service}/{method}",
            request_serializer=request_type(method).SerializeToString,
            response_deserializer=response_type(method).FromString,
        )
        answering = stub(message_of(method, things.fields(method)), metadata=metadata, timeout=20)
        answers = [one async for one in answering] if call.method.server_streaming else [await answering]
    assert answers
    assert all(isinstance(answer, response_type(method)) for answer in answers)
