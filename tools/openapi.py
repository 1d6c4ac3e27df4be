#!/usr/bin/env python3
"""Make the OpenAPI document of the REST API from the descriptor set the code is generated with.

Usage: tools/openapi.py [FILE]; FILE defaults to the one the gateway serves.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from openapi_schemas import Schemas
from openapi_spec_validator import validate
from wfe_gateway.api import PACKAGE, Binding, bindings, descriptors
from wfe_gateway.openapi import document_file

_JSON = "application/json"
_HTML = "text/html; charset=utf-8"
#: Calls whose body is a form, as pages send it.
_FORMS = frozenset({"AnswerLink"})
#: What makes these calls safe to repeat is a header, which no proto file can say.
_TAKES_KEY = frozenset({"StartWorkflow", "ForkWorkflow", "RerunWorkflow", "SignalWorkflow"})
_NEEDS_NO_KEY = frozenset({"SystemService", "CallbackService", "LinkService"})
#: Calls that a signature lets in instead of a key.
_SIGNED = frozenset({"ReceiveHook"})
_ABOUT = (
    "Durable runs of published templates: start, watch, pause, decide, repeat, roll back.\n\n"
    "Times are RFC 3339 in UTC. Numbers are IEEE doubles: integers beyond ±(2^53−1) are refused in inputs and "
    "are strings in answers. Fields without a value are left out; strings, numbers, lists and maps are always "
    "there. Unknown query parameters are refused, unknown fields of a body are dropped without a word. Every "
    "error has the body `Status`, with one ErrorInfo whose `reason` programs can rely on."
)
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the call safe to repeat: the same key and body give the same answer, the same key "
    "with another body is refused with 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_STATUS = {
    "type": "object",
    "description": "google.rpc.Status: what every error answers.",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "format": "int32", "description": "gRPC code, e.g. 5 for NOT_FOUND."},
        "message": {"type": "string", "description": "What is wrong and what would mend it, for people."},
        "details": {
            "type": "array",
            "description": "One ErrorInfo; a BadRequest with every violation when the input is at fault.",
            "items": {
                "anyOf": [
                    {"$ref": "#/components/schemas/ErrorInfo"},
                    {"$ref": "#/components/schemas/BadRequest"},
                    {"$ref": "#/components/schemas/OtherDetail"},
                ]
            },
        },
    },
}
_ERROR_INFO = {
    "type": "object",
    "description": "Why, for programs.",
    "required": ["@type", "reason", "domain"],
    "properties": {
        "@type": {"const": "type.googleapis.com/google.rpc.ErrorInfo"},
        "reason": {"type": "string", "description": "UPPER_SNAKE_CASE; does not change."},
        "domain": {"type": "string", "description": "wfe."},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
_BAD_REQUEST = {
    "type": "object",
    "description": "Everything that is wrong with the input.",
    "required": ["@type"],
    "properties": {
        "@type": {"const": "type.googleapis.com/google.rpc.BadRequest"},
        "field_violations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "Path of the field."},
                    "description": {"type": "string", "description": "What is wrong with it."},
                    "reason": {"type": "string", "description": "UPPER_SNAKE_CASE; may be empty."},
                },
            },
        },
    },
}
_OTHER = {
    "type": "object",
    "description": "A detail of another kind, e.g. google.rpc.RetryInfo.",
    "required": ["@type"],
    "properties": {"@type": {"type": "string"}},
}
_ERRORS = {
    "400": "The input is wrong; every violation is named.",
    "401": "Credentials are missing or not accepted.",
    "403": "The caller may not do this.",
    "404": "There is no such thing, or it is another owner's.",
    "409": "The state of the thing does not allow this.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "429": "Too many calls.",
    "503": "A part that is needed is not there; try again.",
}


def document() -> dict[str, Any]:
    """The OpenAPI document, valid.

    Raises:
        OpenAPIValidationError: When it is not.
    """
    schemas = Schemas(descriptors().file)
    paths: dict[str, Any] = {}
    for binding in bindings():
        paths.setdefault(binding.path, {})[binding.verb.lower()] = _operation(schemas, binding)
    errors = {"Status": _STATUS, "ErrorInfo": _ERROR_INFO, "BadRequest": _BAD_REQUEST, "OtherDetail": _OTHER}
    taken = sorted(set(errors) & set(schemas.components))
    if taken:
        raise ValueError(f"messages may not be named {', '.join(taken)}")
    found = {
        "openapi": "3.1.0",
        "info": {"title": "Workflow Engine", "version": PACKAGE.rpartition(".")[2], "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearerAuth": []}],
        "tags": _tags(schemas),
        "paths": paths,
        "components": {
            "schemas": dict(sorted((schemas.components | errors).items())),
            "responses": {f"Error{status}": _error(text) for status, text in _ERRORS.items()},
            "securitySchemes": {
                "bearerAuth": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, or a JWT of an issuer the engine knows.",
                }
            },
        },
    }
    validate(found)
    return found


def _tags(schemas: Schemas) -> list[dict[str, str]]:
    return [
        {"name": _tag(service.name), "description": schemas.comments.at(file.name, 6, index)}
        for file in descriptors().file
        if file.package == PACKAGE
        for index, service in enumerate(file.service)
    ]


def _tag(service: str) -> str:
    return service.rpartition(".")[2].removesuffix("Service")


def _operation(schemas: Schemas, binding: Binding) -> dict[str, Any]:
    comment = _comment(schemas, binding)
    summary, _, rest = comment.partition(". ")
    found: dict[str, Any] = {
        "operationId": binding.method.name,
        "tags": [_tag(binding.service)],
        "summary": summary.rstrip("."),
    }
    if rest:
        found["description"] = comment
    parameters = _parameters(schemas, binding)
    if parameters:
        found["parameters"] = parameters
    if binding.body and binding.body != "*":
        # The body itself, byte for byte.
        comment = schemas.comment(binding.method.input_type, binding.body)
        kind = "application/x-www-form-urlencoded" if binding.method.name in _FORMS else _JSON
        found["requestBody"] = {"required": True, "content": {kind: {"schema": {"description": comment}}}}
    elif binding.body:
        schema = schemas.body(binding.method.input_type, binding.path_fields)
        named = schemas.components[schema["$ref"].rpartition("/")[2]]
        found["requestBody"] = {"required": "required" in named, "content": {_JSON: {"schema": schema}}}
    found["responses"] = _responses(schemas, binding, comment)
    if binding.service.rpartition(".")[2] in _NEEDS_NO_KEY or binding.method.name in _SIGNED:
        found["security"] = []
    return found


def _comment(schemas: Schemas, binding: Binding) -> str:
    for file in descriptors().file:
        for place, service in enumerate(file.service):
            if f"{file.package}.{service.name}" == binding.service:
                index = [method.name for method in service.method].index(binding.method.name)
                return schemas.comments.at(file.name, 6, place, 2, index)
    raise LookupError(binding.service)


def _parameters(schemas: Schemas, binding: Binding) -> list[dict[str, Any]]:
    type_name = binding.method.input_type
    in_query = [] if binding.body else list(binding.other_fields)
    places = [(name, "path") for name in binding.path_fields] + [(name, "query") for name in in_query]
    found = []
    for name, place in places:
        schema = schemas.field(type_name, name)
        comment = schema.pop("description")
        required = place == "path" or schemas.is_required(type_name, name)
        found.append({"name": name, "in": place, "required": required, "description": comment, "schema": schema})
    return [*found, _KEY_HEADER] if binding.method.name in _TAKES_KEY else found


def _responses(schemas: Schemas, binding: Binding, comment: str) -> dict[str, Any]:
    # The comment is where the API promises it, and what services and tests go by.
    status = "201" if "Answers 201" in comment else "200"
    page = binding.method.output_type == ".google.api.HttpBody"
    schema = {"type": "string"} if page else schemas.answer(binding.method.output_type)
    if page:
        success = {"description": "A page.", "content": {_HTML: {"schema": schema}}}
    elif binding.method.server_streaming:
        text = "Server-sent events; the data of each is one JSON object."
        success = {"description": text, "content": {"text/event-stream": {"schema": schema}}}
    else:
        success = {
            "description": "Made." if status == "201" else "Done.",
            "content": {_JSON: {"schema": schema}},
        }
    errors = ["400", "503"]
    if binding.service.rpartition(".")[2] not in _NEEDS_NO_KEY:
        errors += ["401", "403", "429"]
    if binding.path_fields:
        errors.append("404")
    if binding.verb != "GET":
        errors.append("409")
    if binding.body:
        errors += ["413", "415"]
    references = {status: {"$ref": f"#/components/responses/Error{status}"} for status in sorted(errors)}
    return {status: success, **references}


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Status"}}}}


def main() -> None:
    """Write the document."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else document_file()
    target.write_text(json.dumps(document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
