"""What a model's answer says, and what its refusals mean."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec
from wfe_bus.messages import Failure
from wfe_egress import Answer

from wfe_executor.http_answers import excerpt, is_retryable, retry_after
from wfe_executor.outputs import StepFailed, clean, failure

#: Violations of the schema that a failure names.
MOST_VIOLATIONS = 5

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_TOO_LONG = re.compile(r"context.{0,10}(?:length|window)|too many (?:input )?tokens|prompt is too long", re.IGNORECASE)

_decode = msgspec.json.Decoder().decode


class Answered:
    """One choice of a model.

    Attributes:
        message: As it goes back into the conversation.
        finish_reason: stop, tool_calls, length, …
        usage: {"input_tokens", "output_tokens", "total_tokens"}; None when the endpoint does not say.
        model: Which model answered.
    """

    __slots__ = ("finish_reason", "message", "model", "usage")

    def __init__(self, message: dict[str, Any], finish_reason: str, usage: Any, model: str) -> None:
        self.message = message
        self.finish_reason = finish_reason
        self.usage = _usage(usage)
        self.model = model

    def structured(self, schema: dict[str, Any]) -> Any:
        """The content as the value its schema asks for.

        Raises:
            StepFailed: SCHEMA_MISMATCH, which another attempt may mend; ANSWER_TRUNCATED; REQUEST_INVALID.
        """
        text = self.message.get("content")
        if self.finish_reason == "length":
            raise StepFailed(
                failure(
                    "ANSWER_TRUNCATED",
                    "the answer was cut off; raise max_tokens, or ask for less",
                    retryable=False,
                )
            )
        if not isinstance(text, str):
            raise _mismatch(["the answer has no text"], "")
        fenced = _FENCED.fullmatch(text)
        try:
            value = _decode((fenced[1] if fenced else text).encode())
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise _mismatch([f"the answer is not JSON: {error}"], text) from error
        found = []
        for violation in _validator(msgspec.json.encode(schema)).iter_errors(value):
            where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in violation.instance_path)
            found.append(clean(f"{where or '.'}: {violation.message}", 300))
            if len(found) == MOST_VIOLATIONS:
                break
        if found:
            raise _mismatch(found, text)
        return value


def answered(answer: Answer) -> Answered | Failure:
    """The first choice of an answer with status 200."""
    try:
        body = _decode(answer.body)
        choice = body["choices"][0]
        message = {name: value for name, value in choice["message"].items() if value is not None}
        reason = str(choice.get("finish_reason") or "stop")
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, AttributeError):
        return failure(
            "MODEL_ANSWER_INVALID",
            "the endpoint's answer is not a chat completion",
            details={"body": excerpt(answer.body)},
        )
    message.setdefault("role", "assistant")
    message.setdefault("content", None)
    if reason == "content_filter":
        return failure("CONTENT_FILTERED", "the endpoint's filter cut the answer off", retryable=False)
    if message.get("refusal"):
        return failure("MODEL_REFUSED", clean(f"the model refuses: {message['refusal']}", 1000), retryable=False)
    model = body.get("model")
    return Answered(message, reason, body.get("usage"), clean(model, 200) if isinstance(model, str) else "")


def refused(answer: Answer) -> Failure:
    """The failure that an answer with another status means."""
    status = answer.status
    try:
        said = _decode(answer.body)["error"]
        text, code = str(said.get("message") or ""), str(said.get("code") or said.get("type") or "")
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, AttributeError):
        text, code = excerpt(answer.body), ""
    details = {"status": status} | ({"code": clean(code, 100)} if code else {})
    message = clean(f"the endpoint answered {status}{f': {text}' if text else ''}", 1000)
    wait = _wait(answer)

    def fail(name: str, *, retryable: bool = False) -> Failure:
        return failure(name, message, retryable=retryable, retry_after=wait if retryable else None, details=details)

    if status in (401, 403):
        return fail("MODEL_UNAUTHORIZED")
    if code == "insufficient_quota":
        return fail("MODEL_QUOTA_EXCEEDED")
    if status == 429:
        return fail("MODEL_RATE_LIMITED", retryable=True)
    if code == "context_length_exceeded" or (status in (400, 413, 422) and _TOO_LONG.search(text)):
        return fail("CONTEXT_LENGTH_EXCEEDED")
    if code in ("content_filter", "content_policy_violation"):
        return fail("CONTENT_FILTERED")
    if status == 404:
        return fail("MODEL_NOT_FOUND")
    if is_retryable(status):
        return fail("MODEL_UNAVAILABLE", retryable=True)
    return fail("MODEL_REQUEST_INVALID")


def _wait(answer: Answer) -> float | None:
    milliseconds = answer.headers.get("retry-after-ms", "")
    if milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) < 12:
        return int(milliseconds) / 1000
    return retry_after(answer.headers.get("retry-after"))


def _usage(given: Any) -> dict[str, int] | None:
    if not isinstance(given, dict):
        return None
    counts = [given.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    sent, made = (int(count or 0) for count in counts)
    return {"input_tokens": sent, "output_tokens": made, "total_tokens": sent + made}


class _Remote:
    """Refuses references to other documents."""

    def __call__(self, uri: str) -> Any:
        raise ValueError(f"references to other documents are not followed: {uri[:100]}")


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            _decode(schema),
            validate_formats=True,
            ignore_unknown_formats=True,
            retriever=_Remote(),
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20),
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        why = failure("REQUEST_INVALID", clean(f"the schema cannot be used: {error}", 500), retryable=False)
        raise StepFailed(why) from error


def _mismatch(violations: list[str], text: str) -> StepFailed:
    message = f"the answer does not fit its schema: {violations[0]}"
    details = {"violations": violations, "content": clean(text, 2000)}
    return StepFailed(failure("SCHEMA_MISMATCH", message, details=details))
