"""How a request proves who makes it."""

from __future__ import annotations

import base64
import re

import msgspec

from wfe_executor.attempts import Attempt
from wfe_executor.outputs import StepFailed, failure

_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}", re.ASCII)


class Basic(msgspec.Struct):
    """A user and a password."""

    username: str
    password: str


class HeaderAuth(msgspec.Struct):
    """A header of the other side's own."""

    name: str
    value: str


class Auth(msgspec.Struct):
    """Exactly one of the three."""

    bearer: str | None = None
    basic: Basic | None = None
    header: HeaderAuth | None = None


def auth_header(attempt: Attempt, auth: Auth) -> tuple[str, str]:
    """Name, in lower case, and value of the header. What is made from sealed values is redacted like them.

    Raises:
        StepFailed: REQUEST_INVALID, for none or several ways, or a value that cannot be sent.
    """
    if sum(one is not None for one in (auth.bearer, auth.basic, auth.header)) != 1:
        raise _invalid("auth has exactly one of bearer, basic and header")
    if auth.bearer is not None:
        check_credential(auth.bearer)
        name, value = "authorization", f"Bearer {auth.bearer}"
    elif auth.basic is not None:
        if ":" in auth.basic.username:
            raise _invalid("the username of a basic auth cannot hold a colon")
        token = base64.b64encode(f"{auth.basic.username}:{auth.basic.password}".encode()).decode()
        if attempt.redactor is not None:
            attempt.redactor.add(token)
        name, value = "authorization", f"Basic {token}"
    else:
        assert auth.header is not None
        name, value = auth.header.name.lower(), auth.header.value
        if not _HEADER.fullmatch(name):
            raise _invalid("the name of the auth header cannot be one")
    check_credential(value)
    return name, value


def check_credential(text: str) -> None:
    """Refuse what no header can carry.

    Raises:
        StepFailed: REQUEST_INVALID.
    """
    if not text.isprintable() or text != text.strip():
        raise _invalid("a credential holds a line break, a control character or blanks around it")


def _invalid(message: str) -> StepFailed:
    return StepFailed(failure("REQUEST_INVALID", message, retryable=False))
