"""Checks of this service's own request fields; the common ones are in `wfe_servicekit.checks`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from wfe_engine.errors import InvalidInput
from wfe_servicekit.checks import choice, plain_text
from wfe_servicekit.policy import ROLES

#: As the proto lists them, least first.
ROLES_IN_ORDER = ("viewer", "operator", "author", "approver", "admin", "breakglass")
assert frozenset(ROLES_IN_ORDER) == ROLES
KINDS = ("person", "agent", "service")
COMMENT_CHARACTERS = 4_000
NAME_CHARACTERS = 100
#: Of a reason's code or a rejection's outcome.
WORD_CHARACTERS = 100
DECISIONS = ("approve", "reject", "revise")
RISKS = ("low", "medium", "high")

_KEY_ID = re.compile(r"[0-9A-Za-z]{8}")


def parse_name(text: str, field: str = "name") -> str:
    """A principal's or group's name; compared letter by letter, so blanks around it are refused."""
    name = plain_text(text, field, longest=NAME_CHARACTERS, shortest=1)
    if name != name.strip():
        raise InvalidInput("must not begin or end with a blank", field=field)
    return name


def parse_roles(roles: Iterable[str], field: str = "roles") -> tuple[str, ...]:
    """Roles without repeats, in the order of ROLES_IN_ORDER."""
    given = {choice(role, field, ROLES_IN_ORDER) for role in roles}
    return tuple(role for role in ROLES_IN_ORDER if role in given)


def parse_subject(text: str, field: str = "subject") -> str | None:
    """issuer|sub; None when empty."""
    subject = plain_text(text, field, longest=600)
    issuer, bar, sub = subject.partition("|")
    if subject and not (issuer and bar and sub):
        raise InvalidInput("must be issuer|sub, e.g. https://id.example.com|1234", field=field)
    return subject or None


def parse_key_id(text: str, field: str = "id") -> str:
    """The public part of a key."""
    if _KEY_ID.fullmatch(text) is None:
        raise InvalidInput("is not the public part of a key: 8 letters and digits", field=field)
    return text


def parse_span(seconds: int, field: str, *, longest: int) -> int:
    """A span of whole seconds from 0 to `longest`."""
    if not 0 <= seconds <= longest:
        raise InvalidInput(f"must be between 0 and {longest} seconds", field=field)
    return seconds
