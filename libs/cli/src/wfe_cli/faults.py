"""What a command can end with, and how it is said."""

from __future__ import annotations

from wfe_stack.rest import Refused

#: Exit codes.
OK, FAILED, USAGE, REFUSED = 0, 1, 2, 3


class UsageFault(Exception):
    """The command was given something it cannot use; the message is one line."""


class Failed(Exception):
    """The command did what it was told, and it did not succeed; the message is one line, or empty."""


def refusal(fault: Refused) -> str:
    """A refusal on one line: reason, message, and what is wrong with which field."""
    parts = [f"{fault.reason}: {fault.message}" if fault.reason else fault.message]
    for violation in fault.violations:
        text = f"{violation.field}: {violation.description}" if violation.field else violation.description
        if text not in parts[0]:
            parts.append(text)
    return "; ".join(" ".join(part.split()) for part in parts)
