"""The call being answered: what the guard knows of it, for servicers, logs and the guard itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from wfe_engine.errors import Unauthenticated

__all__ = [
    "Call",
    "Caller",
    "acting_as",
    "current_call",
    "current_caller",
    "header",
    "http_headers",
    "http_status",
    "large_value",
]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the credentials say.

    Attributes:
        owner_id: Owner (tenant); every query is scoped to it.
        owner: The owner's name.
        principal_id: Principal within the owner.
        principal: The principal's name.
        kind: person, agent or service.
        roles: What it may do; with a key, narrowed to the key's roles.
        groups: Names of its groups.
        key_id: Public part of the API key used; None with a token.
    """

    owner_id: UUID
    owner: str
    principal_id: UUID
    principal: str
    kind: str
    roles: frozenset[str]
    groups: frozenset[str]
    key_id: str | None = None


class Call:
    """One RPC under way. Not frozen: the guard fills it in as it learns.

    Attributes:
        method: Full name, `/package.Service/Method`.
        metadata: Request metadata as gRPC gives it: pairs, names in lower case.
        caller: Who calls; None until authenticated and for public methods.
        http_status: Status the answer shall have over REST; 0 for the usual one.
        http_headers: Headers the answer shall have over REST beside the usual ones.
        task: The task that answers.
        expires: When the deadline is, on the loop's clock; 0 for none.
        expired: True once the deadline cancelled the task.
        shed: True once the end of the process cancelled it.
        counted: It counts among the streams of its caller's owner.
        large: JSON of the values that are too large to be in the request message, by field.
    """

    __slots__ = (
        "caller",
        "counted",
        "expired",
        "expires",
        "http_headers",
        "http_status",
        "large",
        "metadata",
        "method",
        "shed",
        "task",
    )

    def __init__(self, method: str, metadata: Iterable[tuple[str, str | bytes]] = ()) -> None:
        self.method = method
        self.metadata = metadata
        self.caller: Caller | None = None
        self.http_status = 0
        self.http_headers: tuple[tuple[str, str], ...] = ()
        self.task: asyncio.Task[object] | None = None
        self.expires = 0.0
        self.expired = False
        self.shed = False
        self.counted = False
        self.large: Mapping[str, bytes] = _NOTHING

    @property
    def rest(self) -> bool:
        """Whether the call came over REST: Envoy's transcoder says which path it had."""
        return self.header("x-envoy-original-path") is not None

    def header(self, name: str) -> str | None:
        """The first value of a metadata entry; None when absent. `name` in lower case."""
        for key, value in self.metadata:
            if key == name:
                return value if isinstance(value, str) else value.decode("utf-8", "replace")
        return None


_NOTHING: Mapping[str, bytes] = {}
call_var: ContextVar[Call | None] = ContextVar("wfe_call", default=None)


def current_call() -> Call | None:
    """The RPC this code runs for; None outside any."""
    return call_var.get()


def current_caller() -> Caller:
    """Who calls.

    Raises:
        Unauthenticated: Outside an RPC, or in a public one.
    """
    call = call_var.get()
    if call is None or call.caller is None:
        raise Unauthenticated("credentials are missing or not valid")
    return call.caller


def header(name: str) -> str | None:
    """A metadata entry of the current call, e.g. `idempotency-key`; None when absent or outside a call."""
    call = call_var.get()
    return None if call is None else call.header(name)


def large_value(field: str) -> bytes | None:
    """JSON of a value of the request that came beside its message; None for one that is in it, or not given."""
    call = call_var.get()
    return None if call is None else call.large.get(field)


def http_status(status: int) -> None:
    """Say which HTTP status an answer has over REST, e.g. 201. For unary methods; gRPC clients see none."""
    call = call_var.get()
    if call is not None:
        call.http_status = status


def http_headers(*headers: tuple[str, str]) -> None:
    """Say which headers an answer has over REST; names in lower case. For unary methods; gRPC clients see none."""
    call = call_var.get()
    if call is not None:
        call.http_headers += headers


@contextmanager
def acting_as(caller: Caller) -> Iterator[Call]:
    """Run code as if in an RPC of that caller; for tests and for work done on a caller's behalf."""
    call = Call("")
    call.caller = caller
    token = call_var.set(call)
    try:
        yield call
    finally:
        call_var.reset(token)
