"""Logs: one JSON line per event, with who and which run, without secrets, whatever was logged.

Values are escaped (a line is always one line), each at most 4 KiB. The redactor goes over names and over
text, so that a key or a password that slips into a message or a traceback is not written either.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, unbind_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from wfe_servicekit.calls import call_var
from wfe_servicekit.telemetry.tracing import current_traceparent, tracing

__all__ = [
    "bind_contextvars",
    "bound_contextvars",
    "clear_contextvars",
    "configure",
    "get_logger",
    "redact_text",
    "unbind_contextvars",
]

LONGEST_VALUE = 4096
HIDDEN = "[redacted]"

get_logger = structlog.get_logger

_SECRET_NAME = re.compile(
    r"authorization|cookie|passw(or)?d|passphrase|secret|credential|private_?key|api_?key|dsn|database_url"
    r"|(^|[_\-.])(token|jwt|signature|bearer)$",
    re.IGNORECASE,
)
_TEXT_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # The engine's own keys: the public part stays, it is what one looks for.
    (re.compile(r"\bwfe_([0-9A-Za-z]{8})_[0-9A-Za-z]{20,}(?:_[0-9A-Za-z]{1,6})?"), rf"wfe_\1_{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/=_.~-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"), HIDDEN),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@]+@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    (re.compile(r"\b(password|passwd|pwd|secret)(\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;&]+)", re.IGNORECASE),
     rf"\1\2{HIDDEN}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY|$)", re.DOTALL), HIDDEN),
)  # fmt: skip
# A text without any of these needs none of the rules.
_SUSPECT = re.compile(r"wfe_|bearer|basic|eyJ|://|passw|pwd|secret|PRIVATE KEY", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def redact_text(text: str) -> str:
    """The text with keys, tokens, passwords and the password part of URLs replaced."""
    if _SUSPECT.search(text):
        for rule, instead in _TEXT_RULES:
            text = rule.sub(instead, text)
    return text


def _safe(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth < 6:
        return {
            _safe(str(key)): HIDDEN if _SECRET_NAME.search(str(key)) else _safe(item, depth + 1)
            for key, item in list(value.items())[:100]
        }
    if isinstance(value, list | tuple | set | frozenset) and depth < 6:
        return [_safe(item, depth + 1) for item in list(value)[:100]]
    text = value if isinstance(value, str) else str(value)
    # Cut before redacting, or a text of megabytes would keep the rules busy; once more after, as the rules
    # add text.
    if len(text) > 4 * LONGEST_VALUE:
        text = text[: 4 * LONGEST_VALUE]
    text = redact_text(text)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name == "exception" and isinstance(value, str):
            # Of a traceback the end says most.
            event[name] = _safe(
                value if len(value) <= LONGEST_VALUE else "…" + redact_text(value)[-LONGEST_VALUE + 1 :]
            )
        elif name in ("_record", "_from_structlog"):
            continue
        elif _SECRET_NAME.search(name):
            event[name] = HIDDEN
        else:
            event[name] = _safe(value)
    return event


def _add_call(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Who calls what. Read when a line is written, so that a call that logs nothing pays nothing."""
    if tracing() and (own := current_traceparent()):
        event.setdefault("trace_id", own[3:35])
        event.setdefault("span_id", own[36:52])
    call = call_var.get()
    if call is not None and call.method:
        event.setdefault("rpc", call.method)
        if (trace := _trace_id(call.header("traceparent"))) is not None:
            event.setdefault("trace_id", trace)
        if (request := call.header("x-request-id")) is not None:
            event.setdefault("request_id", request[:64])
    if call is not None and call.caller is not None:
        event.setdefault("owner", call.caller.owner)
        event.setdefault("principal", call.caller.principal)
    return event


def _trace_id(traceparent: str | None) -> str | None:
    # W3C: version-traceid-parentid-flags; anything else is ignored.
    if traceparent is None or re.fullmatch(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", traceparent) is None:
        return None
    return traceparent[3:35]


def _json_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    line: dict[str, Any] = {"at": event.pop("at", None), "level": event.pop("level", None)}
    line["event"] = event.pop("event", "")
    line.update(event)
    # Only ASCII: C1 controls and line separators are escaped as well.
    return json.dumps(line, default=str, ensure_ascii=True, separators=(",", ":"), allow_nan=True)


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """For the console, where nothing else escapes: no terminal sequences, no forged lines."""
    for name, value in event.items():
        if isinstance(value, str):
            clean = _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
            clean = clean.encode("utf-8", "backslashreplace").decode()
            event[name] = clean if name == "exception" else clean.replace("\n", "\\n")
    return event


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to what is stdout at that moment, so that it may be replaced after the set-up."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Nothing is kept."""


class _Service:
    """Adds the service's name. A class, so that it can be compared and replaced."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, _logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> EventDict:
        event["service"] = self.name
        return event


def configure(service: str, level: str = "info", format: str = "auto") -> None:  # noqa: A002
    """Set up logging of this process: structlog and the standard library's, to stdout. May be called again.

    Args:
        service: Name every line carries.
        level: debug, info, warning or error.
        format: json, console, or auto: console on a terminal, json otherwise.
    """
    console = format == "console" or (format == "auto" and sys.stdout.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_call,
        _Service(service),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact,
    ]
    last: list[Processor] = (
        [_escape, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), timestamp_key="at")]
        if console
        else [_json_line]
    )
    handler = _Stdout()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The guard logs what goes wrong in an RPC, once, with an id; grpc's own line would be a second one.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
