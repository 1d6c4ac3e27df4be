"""Runs `agent` steps: one turn of a model behind an OpenAI-compatible endpoint. See docs/agent.md."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
from wfe_bus.messages import Failure
from wfe_egress import AnswerTooLarge, EgressDenied, GuardedSession
from yarl import URL

from wfe_executor.agent_answers import Answered, answered, refused
from wfe_executor.agent_tools import Tool, functions, resolve, tool_calls
from wfe_executor.attempts import Attempt
from wfe_executor.auth import check_credential
from wfe_executor.http import said
from wfe_executor.mcp import Mcp
from wfe_executor.outputs import StepFailed, encoded, failure

#: Seconds for a turn of a step without an attempt timeout.
TURN_SECONDS = 600.0
#: Bytes of a model's answer.
ANSWER_BYTES = 8 << 20
#: Parts of the request `extra` does not replace.
_OWN = frozenset({"model", "messages", "tools", "response_format", "temperature", "stream", "n"})

_encode = msgspec.json.Encoder().encode


class Prices(msgspec.Struct):
    """Prices of a million tokens, in any one currency."""

    input: float = 0.0
    output: float = 0.0


class AgentRequest(msgspec.Struct):
    """The request of one turn: the params of the step, with the conversation so far in `messages`.

    Attributes:
        endpoint: Base URL, e.g. https://api.example.com/v1; or the whole address of chat/completions.
        model: Its name there.
        messages: The conversation, in the wire's format.
        api_key: Sent as a bearer token.
        headers: Further headers.
        tools: What the model may call, as the template has it.
        resolved: The functions made of the tools, as an earlier turn gave them; made anew when absent.
        schema: JSON Schema of the answer.
        temperature, max_tokens: As on the wire.
        extra: Further parts of the request.
        limits: Of the whole agent; not looked at here.
        prices: For the cost.
        approval: Who decides about gated calls; not looked at here.
    """

    endpoint: str
    model: str
    messages: list[dict[str, Any]]
    api_key: str | None = None
    headers: dict[str, str] = {}
    tools: list[Tool] = []
    resolved: list[dict[str, Any]] | None = None
    schema: dict[str, Any] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    extra: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    prices: Prices | None = None
    approval: Any = None


class Agents:
    """Asks models."""

    def __init__(self, http: GuardedSession, mcp: Mcp) -> None:
        self._http = http
        self._mcp = mcp

    async def run(self, attempt: Attempt, request: AgentRequest) -> bytes | Failure:
        """One turn.

        Returns:
            JSON of {"message", "tool_calls", "finish_reason", "usage", "cost", "model"}, with "output" when there is
            a schema and no call, and "tools" when functions were made of the tools. Or the failure, see docs/agent.md.

        Raises:
            StepFailed: Some of the failures.
        """
        if not request.messages:
            raise StepFailed(failure("REQUEST_INVALID", "there are no messages", retryable=False))
        headers = self._headers(attempt, request)
        attempt.begin()
        resolved = request.resolved
        if resolved is None:
            resolved = await resolve(self._mcp, attempt, request.tools)
        answer = await self._ask(attempt, request, headers, _body(request, resolved))
        if isinstance(answer, Failure):
            return answer
        output: dict[str, Any] = {
            "message": answer.message,
            "tool_calls": tool_calls(answer.message, resolved, request.tools),
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
            "cost": _cost(answer, request.prices),
            "model": answer.model,
        }
        if request.schema is not None and not output["tool_calls"]:
            output["output"] = answer.structured(request.schema)
        if request.resolved is None and resolved:
            output["tools"] = resolved
        return encoded(output)

    def _headers(self, attempt: Attempt, request: AgentRequest) -> dict[str, str]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if request.api_key is not None:
            check_credential(request.api_key)
            headers["authorization"] = f"Bearer {request.api_key}"
        headers["content-type"] = "application/json"
        headers.setdefault("idempotency-key", attempt.lease.idempotency_key)
        if attempt.lease.traceparent:
            headers.setdefault("traceparent", attempt.lease.traceparent)
        return headers

    async def _ask(
        self, attempt: Attempt, request: AgentRequest, headers: dict[str, str], body: dict[str, Any]
    ) -> Answered | Failure:
        try:
            answer = await self._http.request(
                "POST",
                _address(request.endpoint),
                headers=headers,
                body=_encode(body),
                timeout=None if attempt.lease.attempt_timeout is not None else TURN_SECONDS,
                max_bytes=ANSWER_BYTES,
            )
        except EgressDenied as error:
            return failure(error.reason, str(error), retryable=False, details=error.metadata)
        except AnswerTooLarge as error:
            return failure(error.reason, str(error), retryable=False, details={"limit": error.limit})
        except TimeoutError:
            return failure("MODEL_TIMEOUT", "the model did not answer in time")
        except ValueError as error:
            return failure("REQUEST_INVALID", f"the call cannot be made: {error}", retryable=False)
        except (aiohttp.ClientError, OSError, EOFError) as error:
            return failure("MODEL_UNAVAILABLE", said(error), details={"error": type(error).__name__})
        if answer.status != 200:
            return refused(answer)
        return answered(answer)


def _address(endpoint: str) -> str | URL:
    try:
        url = URL(endpoint)
    except (ValueError, LookupError):
        return endpoint  # the guard says what is wrong with it
    if url.path.rstrip("/").endswith("/chat/completions"):
        return url
    return url.with_path(f"{url.path.rstrip('/')}/chat/completions", keep_query=True)


def _body(request: AgentRequest, resolved: list[dict[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {name: value for name, value in request.extra.items() if name not in _OWN}
    body |= {"model": request.model, "messages": request.messages}
    if resolved:
        body["tools"] = functions(resolved)
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": request.schema},
        }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    return body


def _cost(answer: Answered, prices: Prices | None) -> float | None:
    if prices is None or answer.usage is None:
        return None
    spent = answer.usage["input_tokens"] * prices.input + answer.usage["output_tokens"] * prices.output
    return float(round(spent / 1_000_000, 9))
