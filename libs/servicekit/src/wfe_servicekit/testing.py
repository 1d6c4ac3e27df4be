"""For tests of services: a directory in memory, a served server with its channel, errors taken apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from wfe_servicekit.auth import Authenticator, KeyRecord, PrincipalRecord, new_key
from wfe_servicekit.auth.issuers import Issuer
from wfe_servicekit.policy import POLICY, Policy
from wfe_servicekit.server import RunningServer, ServiceEntry, build_server
from wfe_servicekit.settings import ServiceSettings

__all__ = [
    "OWNER",
    "ManualSeconds",
    "MemoryDirectory",
    "Refusal",
    "Served",
    "bearer",
    "make_settings",
    "refused",
    "served",
    "until",
]

OWNER = UUID("0190163d-8694-739b-aea5-966c26f8ad91")


class ManualSeconds:
    """Seconds that a test moves; stands for the wall clock and for the monotonic one."""

    def __init__(self, seconds: float = 1_900_000_000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """The seconds."""
        return self.seconds


@dataclass
class MemoryDirectory:
    """Keys and principals in dicts; a `Directory` and an `OwnerDirectory`.

    Attributes:
        keys: By the key's public part.
        subjects: By `issuer|sub`.
        asked: What it was asked for, in order.
        gate: When set, answers wait for it.
        failure: When set, raised instead of an answer.
    """

    keys: dict[str, KeyRecord] = field(default_factory=dict)
    subjects: dict[str, PrincipalRecord] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    failure: Exception | None = None

    async def find_key(self, key_id: str) -> KeyRecord | None:
        """The key, or None."""
        self.asked.append(key_id)
        await self._pass()
        return self.keys.get(key_id)

    async def find_subject(self, issuer_subject: str, owner_name: str | None) -> PrincipalRecord | None:
        """The principal, or None; None as well when it belongs to another owner."""
        self.asked.append(issuer_subject)
        await self._pass()
        found = self.subjects.get(issuer_subject)
        return found if found is not None and found.owner == owner_name else None

    async def ensure_subject(self, issuer_subject: str, owner_name: str, name: str) -> PrincipalRecord | None:
        """The principal; made when it is not there."""
        self.asked.append(issuer_subject)
        await self._pass()
        if issuer_subject not in self.subjects:
            self.add_subject(issuer_subject, principal=name, owner=owner_name)
        return self.subjects[issuer_subject]

    def add_key(self, *roles: str, **more: Any) -> str:
        """A new key with these roles, and with fields of KeyRecord as given; the text to present."""
        key = new_key()
        values: dict[str, Any] = _principal(roles) | {"hash": key.hash} | more
        self.keys[key.key_id] = KeyRecord(**values)
        return key.text

    def add_subject(self, subject: str, *roles: str, **more: Any) -> PrincipalRecord:
        """A principal known by `issuer|sub`."""
        self.subjects[subject] = record = PrincipalRecord(**(_principal(roles) | more))
        return record

    async def _pass(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure


def _principal(roles: Sequence[str]) -> dict[str, Any]:
    return {
        "owner_id": OWNER,
        "owner": "acme",
        "principal_id": uuid4(),
        "principal": "ann",
        "kind": "person",
        "roles": frozenset(roles),
    }


def make_settings(**more: Any) -> ServiceSettings:
    """Settings of a server on a free port of the loopback; other fields as given."""
    values = {"nats_url": "nats://localhost", "database_url": "postgresql://localhost/wfe"}
    return ServiceSettings(**(values | more))


def bearer(credentials: str) -> list[tuple[str, str]]:
    """Call metadata with these credentials."""
    return [("authorization", f"Bearer {credentials}")]


@dataclass
class Served:
    """A running server with a client."""

    server: RunningServer
    channel: grpc.aio.Channel
    directory: MemoryDirectory
    seconds: ManualSeconds

    def bearer(self, *roles: str, **more: Any) -> list[tuple[str, str]]:
        """Metadata of a new key with these roles."""
        return bearer(self.directory.add_key(*roles, **more))

    def raw(self, method: str) -> Any:
        """A unary method, by full name, of which the test sends and gets the bytes."""
        return self.channel.unary_unary(method)


@asynccontextmanager
async def served(
    servicers: Sequence[ServiceEntry],
    *,
    settings: ServiceSettings | None = None,
    issuers: tuple[Issuer, ...] = (),
    policy: Policy = POLICY,
    **more: Any,
) -> AsyncIterator[Served]:
    """Serve these servicers on a free port, with keys from a `MemoryDirectory`.

    Args:
        servicers: As for `build_server`.
        settings: `make_settings()` when absent.
        issuers: Whose tokens are accepted.
        policy: The public one when absent.
        more: Further arguments of `build_server`.
    """
    directory, seconds = MemoryDirectory(), ManualSeconds()
    authenticator = Authenticator(directory, issuers, owners=directory, now=seconds, monotonic=seconds)
    server = build_server(settings or make_settings(), servicers, authenticator, policy, **more)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(server, channel, directory, seconds)
    finally:
        await server.stop(0)


@dataclass
class Refusal:
    """An error as a client sees it.

    Attributes:
        code: The gRPC code.
        message: The sentence.
        info: Its ErrorInfo.
        details: All details by message name, e.g. `BadRequest`.
        trailers: Trailing metadata.
        initial: Initial metadata.
    """

    code: grpc.StatusCode
    message: str
    info: Any
    details: dict[str, Any]
    trailers: dict[str, Any]
    initial: dict[str, Any]


async def refused(call: Awaitable[Any]) -> Refusal:
    """Await a call that must fail, and take its error apart; it must have exactly one ErrorInfo."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as caught:
        error = caught
    else:
        raise AssertionError(f"the call was not refused but answered: {answer}")
    status = rpc_status.from_call(error)
    assert status is not None, f"no google.rpc.Status: {error}"
    assert (status.code, status.message) == (error.code().value[0], error.details())
    details: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName().rsplit(".", 1)[1]
        assert name not in details, f"two of {name}"
        details[name] = message = getattr(error_details_pb2, name)()
        packed.Unpack(message)
    assert details["ErrorInfo"].domain == "wfe"
    return Refusal(
        error.code(),
        error.details() or "",
        details["ErrorInfo"],
        details,
        dict(error.trailing_metadata() or ()),
        dict(error.initial_metadata() or ()),
    )


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Give other tasks turns until the condition holds.

    Raises:
        TimeoutError: It never did.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions here have no event
            await asyncio.sleep(0.001)
