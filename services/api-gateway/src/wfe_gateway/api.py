"""The public API as its descriptor set tells it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import wfe
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

__all__ = [
    "PACKAGE",
    "Binding",
    "Service",
    "bindings",
    "descriptor_file",
    "descriptors",
    "messages",
    "services",
]

#: Proto package whose services are public, all of them.
PACKAGE = "wfe.api.v1"


@dataclass(frozen=True, slots=True)
class Service:
    """A public service.

    Attributes:
        name: Full name.
        streams: Names of the methods that answer with a stream.
    """

    name: str
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """How REST calls a method.

    Attributes:
        service: Full name of the service.
        method: The method.
        verb: HTTP method, upper case.
        path: Path with its fields in braces.
        body: * when the body holds the message, a field's name when it holds that one, empty when there is none.
    """

    service: str
    method: descriptor_pb2.MethodDescriptorProto
    verb: str
    path: str
    body: str

    @property
    def path_fields(self) -> tuple[str, ...]:
        """Names of the fields the path holds, in its order."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    @property
    def other_fields(self) -> tuple[str, ...]:
        """Names of the fields of the request that the path does not hold."""
        return tuple(
            field.name for field in messages()[self.method.input_type].field if field.name not in self.path_fields
        )


def descriptor_file() -> Path:
    """The descriptor set that was generated with the code of the package `wfe`.

    Raises:
        FileNotFoundError: When the package has none.
    """
    for folder in wfe.__path__:
        path = Path(folder) / "wfe.binpb"
        if path.is_file():
            return path.resolve()
    raise FileNotFoundError("wfe.binpb is not in the package wfe; make it with tools/protos.sh")


@cache
def descriptors() -> descriptor_pb2.FileDescriptorSet:
    """The descriptor set, with all imports and comments."""
    found = descriptor_pb2.FileDescriptorSet()
    found.ParseFromString(descriptor_file().read_bytes())
    return found


@cache
def services() -> tuple[Service, ...]:
    """Every public service, by name."""
    found = (
        Service(
            f"{file.package}.{service.name}",
            tuple(method.name for method in service.method if method.server_streaming),
        )
        for file in descriptors().file
        if file.package == PACKAGE
        for service in file.service
    )
    return tuple(sorted(found, key=lambda service: service.name))


@cache
def messages() -> dict[str, descriptor_pb2.DescriptorProto]:
    """Every top-level message of the descriptor set, by full name with a dot before it."""
    return {f".{file.package}.{message.name}": message for file in descriptors().file for message in file.message_type}


@cache
def bindings() -> tuple[Binding, ...]:
    """Every REST call, in the order of the proto files."""
    return tuple(_bindings())


def _bindings() -> Iterator[Binding]:
    for file in descriptors().file:
        if file.package != PACKAGE:
            continue
        for service in file.service:
            for method in service.method:
                rule = method.options.Extensions[annotations_pb2.http]
                verb = rule.WhichOneof("pattern")
                if verb is None:
                    raise ValueError(f"{service.name}.{method.name} has no google.api.http annotation")
                yield Binding(f"{PACKAGE}.{service.name}", method, verb.upper(), getattr(rule, verb), rule.body)
