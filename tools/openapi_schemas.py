"""JSON Schemas of proto messages, as Envoy's transcoder reads and prints them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

_RUN_STATUS = ["pending", "running", "waiting_approval", "paused", "completed", "failed", "cancelled"]
_APPROVAL_STATUS = [
    "scheduled", "open", "approved", "rejected", "revise", "expired", "withdrawn", "superseded",
]  # fmt: skip
_RISKS = ["low", "medium", "high"]
_ROLES = ["viewer", "operator", "author", "approver", "admin", "breakglass"]
_KINDS = ["person", "agent", "service"]
_SIGNATURES = ["v1", "v1a"]
_SCHEMES = ["standard", "github"]

#: Values of the strings that have a fixed vocabulary. Those of answers must all stand in the field's comment.
VALUES: dict[str, list[str]] = {
    "Workflow.status": _RUN_STATUS,
    "Workflow.trigger_type": ["api", "fork", "schedule", "workflow", "signal", "webhook"],
    "Workflow.runner": ["active", "hibernating"],
    "Step.status": [
        "pending",
        "ready",
        "running",
        "waiting",
        "waiting_approval",
        "completed",
        "failed",
        "skipped",
        "cancelled",
        "rolled_back",
    ],
    "Snapshot.kind": ["gate", "checkpoint", "periodic", "demand"],
    "Approval.status": _APPROVAL_STATUS,
    "Approval.on_expiry": ["reject", "approve", "fail", "branch"],
    "Approval.risk": _RISKS,
    "ListApprovalsRequest.risk": _RISKS,
    "DecideApprovalRequest.decision": ["approve", "reject", "revise"],
    "DecideByLinkRequest.decision": ["approve", "reject", "revise"],
    "DecideApprovalsRequest.decision": ["approve", "reject"],
    "Template.status": ["draft", "published", "deprecated"],
    "Principal.kind": _KINDS,
    "Principal.roles": _ROLES,
    "Key.roles": _ROLES,
    "Webhook.status": ["enabled", "disabled"],
    "Webhook.disabled_reason": ["asked", "gone", "failing"],
    "Webhook.signature": _SIGNATURES,
    "Delivery.status": ["pending", "delivered", "failed", "filtered"],
    "Hook.scheme": _SCHEMES,
    "HookReceipt.status": ["started", "filtered"],
    "CreateWebhookRequest.signature": _SIGNATURES,
    "CreateHookRequest.scheme": _SCHEMES,
    "ListDeliveriesRequest.status": ["pending", "delivered", "failed", "filtered"],
    "RedeliverWebhookRequest.status": ["failed", "delivered", "all"],
    "ListWorkflowsRequest.status": _RUN_STATUS,
    "ListApprovalsRequest.status": [*_APPROVAL_STATUS, "all"],
    "CreatePrincipalRequest.kind": _KINDS,
    "CreatePrincipalRequest.roles": _ROLES,
    "CreateKeyRequest.roles": _ROLES,
}
#: Vocabularies a comment names by another field's.
_SAID_ELSEWHERE = frozenset({"Key.roles"})
#: Strings that are empty while they have nothing to say.
_MAY_BE_EMPTY = frozenset({"Approval.on_expiry", "Webhook.disabled_reason"})

_SCALARS: dict[int, dict[str, Any]] = {
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    Field.TYPE_UINT32: {"type": "integer", "minimum": 0},
    Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.TYPE_FLOAT: {"type": "number", "format": "float"},
    # 64-bit integers are strings in proto JSON: a double cannot carry them.
    Field.TYPE_INT64: {"type": "string", "format": "int64"},
    Field.TYPE_UINT64: {"type": "string", "format": "uint64"},
}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    ".google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    ".google.protobuf.Value": {},
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "examples": ["90s"]},
}


class Comments:
    """Comments of a descriptor set, by the element they stand at."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        self._found: dict[tuple[str, tuple[int, ...]], str] = {}
        for file in files:
            for location in file.source_code_info.location:
                text = " ".join(line.strip() for line in location.leading_comments.splitlines()).strip()
                if text:
                    self._found[file.name, tuple(location.path)] = text

    def at(self, file: str, *path: int) -> str:
        """The comment before an element, as one line; empty when there is none."""
        return self._found.get((file, path), "")


class Schemas:
    """Schemas of messages, collected while they are referred to.

    Attributes:
        components: Schemas by message name.
    """

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        files = list(files)
        self.comments = Comments(files)
        self.components: dict[str, Any] = {}
        self._messages: dict[str, tuple[str, int, descriptor_pb2.DescriptorProto]] = {
            f".{file.package}.{message.name}": (file.name, index, message)
            for file in files
            for index, message in enumerate(file.message_type)
        }

    def message(self, type_name: str) -> descriptor_pb2.DescriptorProto:
        """The message of a full name with a dot before it."""
        return self._messages[type_name][2]

    def answer(self, type_name: str) -> dict[str, Any]:
        """A reference to the schema of a message in an answer."""
        if type_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[type_name])
        file, index, message = self._messages[type_name]
        if message.name not in self.components:
            schema: dict[str, Any] = {"type": "object", "description": self.comments.at(file, 4, index)}
            self.components[message.name] = schema
            schema["properties"] = {name: self.field(type_name, name) for name in _names(message)}
            # Unset messages and unset optional fields are left out, everything else is printed always.
            schema["required"] = [field.name for field in message.field if _always_printed(field)]
        return {"$ref": f"#/components/schemas/{message.name}"}

    def body(self, type_name: str, without: Iterable[str]) -> dict[str, Any]:
        """A reference to the schema of a request's body.

        Args:
            type_name: The request message.
            without: Fields that are in the path.
        """
        file, index, message = self._messages[type_name]
        names = [name for name in _names(message) if name not in set(without)]
        schema: dict[str, Any] = {
            "type": "object",
            "description": self.comments.at(file, 4, index),
            "properties": {name: self.field(type_name, name) for name in names},
            # The gateway drops unknown fields without a word, so clients should check.
            "additionalProperties": False,
        }
        required = [name for name in names if self.is_required(type_name, name)]
        if required:
            schema["required"] = required
        self.components[message.name] = schema
        return {"$ref": f"#/components/schemas/{message.name}"}

    def is_required(self, type_name: str, name: str) -> bool:
        """Whether the field's behaviour is REQUIRED."""
        return field_behavior_pb2.REQUIRED in _behaviors(self._field(type_name, name)[1])

    def comment(self, type_name: str, name: str) -> str:
        """The comment of a field."""
        file, index, _ = self._messages[type_name]
        return self.comments.at(file, 4, index, 2, self._field(type_name, name)[0])

    def field(self, type_name: str, name: str) -> dict[str, Any]:
        """The schema of a field, with its comment."""
        _, field = self._field(type_name, name)
        message = self.message(type_name)
        comment = self.comment(type_name, name)
        schema = self._type(message, field)
        self._name_values(f"{message.name}.{name}", comment, schema)
        if schema.get("type") == "string" and comment.startswith("UUID"):
            schema["format"] = "uuid"
        if field_behavior_pb2.OUTPUT_ONLY in _behaviors(field):
            schema["readOnly"] = True
        return schema | {"description": comment}

    def _name_values(self, key: str, comment: str, schema: dict[str, Any]) -> None:
        values = VALUES.get(key)
        if values is None:
            return
        if not key.split(".")[0].endswith("Request") and key not in _SAID_ELSEWHERE:
            missing = [value for value in values if value not in comment]
            if missing:
                raise ValueError(f"the comment of {key} does not name {', '.join(missing)}")
        target = schema["items"] if schema.get("type") == "array" else schema
        target["enum"] = [*values, ""] if key in _MAY_BE_EMPTY else list(values)

    def _type(self, message: descriptor_pb2.DescriptorProto, field: Field) -> dict[str, Any]:
        entry = _map_entry(message, field)
        if entry is not None:
            return {"type": "object", "additionalProperties": self._one(entry.field[1])}
        if field.label == Field.LABEL_REPEATED:
            return {"type": "array", "items": self._one(field)}
        return self._one(field)

    def _one(self, field: Field) -> dict[str, Any]:
        if field.type == Field.TYPE_MESSAGE:
            return self.answer(field.type_name)
        if field.type not in _SCALARS:
            raise ValueError(f"{field.name}: no schema for type {field.type}; enums are strings here")
        return dict(_SCALARS[field.type])

    def _field(self, type_name: str, name: str) -> tuple[int, Field]:
        fields = enumerate(self.message(type_name).field)
        return next((index, field) for index, field in fields if field.name == name)


def _names(message: descriptor_pb2.DescriptorProto) -> list[str]:
    return [field.name for field in message.field]


def _behaviors(field: Field) -> list[int]:
    return list(field.options.Extensions[field_behavior_pb2.field_behavior])


def _always_printed(field: Field) -> bool:
    if field.label == Field.LABEL_REPEATED:
        return True
    return field.type != Field.TYPE_MESSAGE and not field.proto3_optional


def _map_entry(message: descriptor_pb2.DescriptorProto, field: Field) -> descriptor_pb2.DescriptorProto | None:
    nested = {f".{message.name}.{one.name}": one for one in message.nested_type if one.options.map_entry}
    return next((entry for name, entry in nested.items() if field.type_name.endswith(name)), None)
