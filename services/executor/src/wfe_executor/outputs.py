"""The gate that everything a step gives back must pass: outputs, failures, progress. Nothing here raises."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from wfe_bus.messages import OUTPUT_BYTES, Failure
from wfe_sdk import HandlerError, RetryableError
from wfe_sdk.values import fault_in

#: A failure's message is cut to this many bytes of UTF-8.
MESSAGE_TEXT_BYTES = 4096

#: Details of a failure, and what a handler says of its progress, may be this long as JSON.
SMALL_BYTES = 16 * 1024

#: No other side may ask for a longer pause, in seconds.
LONGEST_PAUSE = 7 * 86_400.0

_encode = msgspec.json.Encoder().encode


class StepFailed(Exception):
    """Ends an attempt with a failure, from anywhere in a runner."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code)
        self.failure = failure


def encoded(value: Any) -> bytes | Failure:
    """An output as JSON bytes, or why it cannot be one (OUTPUT_INVALID, OUTPUT_TOO_LARGE)."""
    try:
        fault = fault_in(value)
        if fault is not None:
            return failure("OUTPUT_INVALID", f"{fault}", retryable=False)
        data = _encode(value)
    except Exception as error:  # noqa: BLE001 - whatever a strange value does, it is the step's fault
        return failure("OUTPUT_INVALID", f"output cannot be written as JSON: {error}", retryable=False)
    if len(data) > OUTPUT_BYTES:
        return failure(
            "OUTPUT_TOO_LARGE",
            f"output has {len(data)} bytes as JSON, at most {OUTPUT_BYTES} are stored; "
            "keep the value elsewhere and give back where it is",
            retryable=False,
            details={"bytes": len(data), "limit": OUTPUT_BYTES},
        )
    return data


def encoded_progress(value: Any) -> bytes | str:
    """Progress as JSON bytes, or why it cannot be shown, as text."""
    try:
        fault = fault_in(value)
        data = b"" if fault else _encode(value)
    except Exception as error:  # noqa: BLE001 - see above
        return f"it cannot be written as JSON: {type(error).__name__}"
    if fault:
        return fault.replace("output", "progress", 1)
    return data if len(data) <= SMALL_BYTES else f"it has {len(data)} bytes, at most {SMALL_BYTES} are shown"


def failure(
    code: str,
    message: str,
    *,
    retryable: bool = True,
    retry_after: float | None = None,
    details: dict[str, Any] | None = None,
) -> Failure:
    """A failure that can be sent and stored whatever went into it: text cleaned and cut, details checked."""
    return Failure(
        code=clean(str(code), 64),
        message=clean(message),
        retryable=retryable,
        retry_after=pause(retry_after),
        details=_small(details) if details else {},
    )


def clean(text: str, limit: int = MESSAGE_TEXT_BYTES) -> str:
    """Text without NUL and surrogates, of at most `limit` bytes."""
    data = text[:limit].replace("\0", "\ufffd").encode("utf-8", "replace")
    return data.decode() if len(data) <= limit else data[: limit - 3].decode("utf-8", "ignore") + "…"


def pause(seconds: Any) -> float | None:
    """Seconds another side asked to wait, within reason; None when it is not a number of seconds."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return None
    return min(max(0.0, float(seconds)), LONGEST_PAUSE)


def of_exception(error: BaseException) -> Failure:
    """The failure of a handler that raised. The traceback is not in it."""
    if isinstance(error, HandlerError):
        wait = error.retry_after if isinstance(error, RetryableError) else None
        return failure(error.code, error.message, retryable=error.retryable, retry_after=wait, details=error.details)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception that cannot even say what it is
        text = ""
    name = type(error).__name__
    return failure("HANDLER_ERROR", f"{name}: {text}" if text else name)


def expected(error: BaseException) -> bool:
    """Whether the handler raised it on purpose, so that nobody needs the traceback."""
    return isinstance(error, HandlerError)


def _small(details: dict[str, Any]) -> dict[str, Any]:
    data = encoded_progress(details)
    if isinstance(data, bytes):
        return details
    return {"dropped": clean(data.replace("progress", "details", 1), 500)}
