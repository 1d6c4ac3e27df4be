"""What the server's calls accept, from the descriptors it is made from.

The gateway drops fields it does not know before the server could see them, so a mistyped one would be lost
without a word. It is refused here.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor
from wfe.api.v1 import (
    approval_service_pb2,
    blob_service_pb2,
    callback_service_pb2,
    explain_service_pb2,
    identity_service_pb2,
    mending_service_pb2,
    schedule_service_pb2,
    secret_service_pb2,
    system_service_pb2,
    template_service_pb2,
    webhook_service_pb2,
    workflow_service_pb2,
)

from wfe_cli.faults import UsageFault

_FILES = (
    approval_service_pb2,
    blob_service_pb2,
    callback_service_pb2,
    explain_service_pb2,
    identity_service_pb2,
    mending_service_pb2,
    schedule_service_pb2,
    secret_service_pb2,
    system_service_pb2,
    template_service_pb2,
    webhook_service_pb2,
    workflow_service_pb2,
)


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the REST API.

    Attributes:
        method: HTTP method.
        path: Path with its variables in braces.
        pattern: What paths of it look like.
        request: Message its body and its query parameters fill.
    """

    method: str
    path: str
    pattern: re.Pattern[str]
    request: Descriptor


@cache
def routes() -> tuple[Route, ...]:
    """Every call."""
    found = []
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                rule = method.GetOptions().Extensions[annotations_pb2.http]
                verb = rule.WhichOneof("pattern")
                path = getattr(rule, verb)
                pattern = re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path))
                request = method.input_type
                if rule.body not in ("", "*"):
                    request = request.fields_by_name[rule.body].message_type  # the body is this field alone
                found.append(Route(verb.upper(), path, pattern, request))
    return tuple(found)


def check(method: str, path: str, body: Any) -> None:
    """Check a call before it is made.

    Raises:
        UsageFault: There is no such call, or its body has a field the call does not know.
    """
    matching = [route for route in routes() if route.pattern.fullmatch(path.partition("?")[0])]
    if not matching:
        raise UsageFault(f"the API has no path {path}")
    # A fixed segment wins over a variable, as in the gateway: templates/validate is no template's id.
    matching.sort(key=lambda route: route.path.count("{"))
    for route in matching:
        if route.method == method:
            _check_fields(route.request, body, "")
            return
    allowed = ", ".join(sorted({route.method for route in matching}))
    raise UsageFault(f"{path} takes {allowed}, not {method}")


def _check_fields(message: Descriptor, value: Any, where: str) -> None:
    if message.full_name.startswith("google.") or not isinstance(value, dict):
        return
    fields = message.fields_by_name
    camel = {field.json_name: field for field in message.fields}
    for name, item in value.items():
        field = fields.get(name) or camel.get(name)
        if field is None:
            near = difflib.get_close_matches(name, fields, n=1)
            mend = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(fields) or 'none'}"
            raise UsageFault(f"{where}{name} is no field of this call{mend}")
        inner = field.message_type
        if inner is not None and not inner.GetOptions().map_entry:
            for each in item if isinstance(item, list) else [item]:
                _check_fields(inner, each, f"{where}{name}.")
