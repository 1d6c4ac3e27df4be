"""`http` steps against a server on the loopback, through the executor."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import msgspec
import pytest
from aiohttp import web
from executor_fakes import FakeScheduler, lease
from site_of_tests import Site, serving
from wfe_executor.http_answers import matches, retry_after


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as made:
        yield made


@pytest.fixture
async def call(scheduler: FakeScheduler, start: Any, site: Site) -> Any:
    executor = await start()

    async def once(path: str = "/", lease_fields: dict[str, Any] | None = None, **request: Any) -> Any:
        request = {"url": f"{site.url}{path}"} | request
        step = lease(kind="http", request=msgspec.json.encode(request), **(lease_fields or {}))
        await scheduler.hand(executor.id, step)
        outcome = await scheduler.outcome(step)
        return outcome.failure or json.loads(outcome.output)

    return once


async def test_json_in_and_out(call: Any, site: Site) -> None:
    site.answers["/a"] = lambda: web.json_response({"id": 7}, status=201, headers={"X-Twice": "1", "Set-Cookie": "s=1"})
    output = await call(
        "/a?x=0",
        method="post",
        json={"text": "ü"},
        query={"n": [1, 2], "flag": True, "none": None},
        headers={"X-Number": 3, "X-None": None},
        lease_fields={"traceparent": "00-abc-def-01"},
    )
    assert (output["status"], output["body"]) == (201, {"id": 7})
    assert output["headers"]["x-twice"] == "1"
    assert "set-cookie" not in output["headers"]
    request, body = site.requests[0]
    assert (request.method, json.loads(body)) == ("POST", {"text": "ü"})
    assert list(request.query.items()) == [("x", "0"), ("n", "1"), ("n", "2"), ("flag", "true")]
    sent = {name.lower(): value for name, value in request.headers.items()}
    assert sent["idempotency-key"] == "key-1"
    assert sent["traceparent"] == "00-abc-def-01"
    assert (sent["x-number"], sent["content-type"]) == ("3", "application/json")
    assert "x-none" not in sent


async def test_bodies_that_are_not_json(call: Any, site: Site) -> None:
    site.answers |= {
        "/text": lambda: web.Response(text="grüße"),
        "/latin": lambda: web.Response(
            body="é".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"}
        ),
        "/bytes": lambda: web.Response(body=b"\xff\xfe", content_type="image/png"),
        "/broken": lambda: web.Response(text="{", content_type="application/json"),
        "/problem": lambda: web.Response(text='{"a": 1}', content_type="application/problem+json"),
        "/empty": lambda: web.Response(status=204, content_type="application/json"),
    }  # fmt: skip
    assert (await call("/text"))["body"] == "grüße"
    assert (await call("/latin"))["body"] == "é"
    output = await call("/bytes")
    assert (base64.b64decode(output["body_base64"]), "body" in output) == (b"\xff\xfe", False)
    assert (await call("/broken"))["body"] == "{"
    assert (await call("/problem"))["body"] == {"a": 1}
    assert (await call("/empty"))["body"] is None


async def test_text_bodies_go_out_as_they_are(call: Any, site: Site) -> None:
    site.answers["/"] = lambda: web.Response()
    await call(method="PUT", body="a=ü", headers={"Content-Type": "application/x-www-form-urlencoded"})
    await call(method="PUT", body="plain", headers={"Idempotency-Key": "mine"})
    assert site.requests[0][1] == "a=ü".encode()
    assert site.requests[0][0].content_type == "application/x-www-form-urlencoded"
    assert site.requests[1][0].content_type == "text/plain"
    assert site.requests[1][0].headers.getall("Idempotency-Key") == ["mine"]


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(302, False), (400, False), (404, False), (408, True), (409, False), (425, True), (429, True),
     (500, True), (501, False), (503, True)],
)  # fmt: skip
async def test_status_classes(call: Any, site: Site, status: int, retryable: bool) -> None:
    site.answers["/"] = lambda: web.Response(
        status=status, text="x" * 5000, headers={"Retry-After": "12", "Location": "/b"}
    )
    failure = await call()
    assert (failure.code, failure.retryable, failure.retry_after) == (f"HTTP_{status}", retryable, 12)
    assert failure.details["status"] == status
    assert len(failure.details["body"]) <= 2048
    assert ("location" in failure.details) == (status == 302)


async def test_expect_decides_what_is_a_success(call: Any, site: Site) -> None:
    site.answers |= {"/404": lambda: web.Response(status=404), "/200": lambda: web.Response()}
    assert (await call("/404", expect=[404, "5xx"]))["status"] == 404
    assert (await call("/200", expect=[404, "5xx"])).code == "HTTP_200"


async def test_calls_that_fail_on_the_way(call: Any, site: Site) -> None:
    refused = await call(url="http://127.0.0.1:1/")
    assert (refused.code, refused.retryable) == ("HTTP_ERROR", True)
    nowhere = await call(url="http://nowhere.invalid/")
    assert (nowhere.code, nowhere.retryable) == ("HTTP_ERROR", True)


async def test_the_guard_refuses_inside_addresses(call: Any) -> None:
    for url in ("http://169.254.169.254/latest", "http://[::ffff:10.0.0.1]/", "http://0xa9fea9fe/", "ftp://x/"):
        failure = await call(url=url)
        assert (failure.code, failure.retryable) == ("EGRESS_DENIED", False)
        assert failure.details["why"] in failure.message


async def test_large_answers(call: Any, site: Site) -> None:
    site.answers["/"] = lambda: web.Response(body=b"x" * 3000)
    failure = await call(max_bytes=2999)
    assert (failure.code, failure.retryable) == ("RESPONSE_TOO_LARGE", False)
    assert failure.details == {"status": 200, "limit": 2999}
    assert (await call(max_bytes=3000))["status"] == 200
    site.answers["/"] = lambda: web.Response(body=b"x" * 600_000)
    assert (await call()).code == "RESPONSE_TOO_LARGE"
    site.answers["/"] = lambda: web.Response(body=b"\n" * 9_000_000)
    failure = await call(max_bytes=10**9)
    assert (failure.code, failure.details["limit"]) == ("OUTPUT_TOO_LARGE", 16 * 2**20)
    site.answers["/"] = lambda: web.Response(body=b"x" * 17_000_000)
    assert (await call(max_bytes=10**9)).code == "RESPONSE_TOO_LARGE"
    site.answers["/"] = lambda: web.Response(text="[9007199254740993]", content_type="application/json")
    failure = await call()
    assert (failure.code, "output.body[0]" in failure.message) == ("OUTPUT_INVALID", True)


@pytest.mark.parametrize(
    "request_fields",
    [{"method": "GE T"}, {"json": 1, "body": "x"}, {"expect": ["abc"]}, {"headers": {"a\n": "x"}},
     {"headers": {"a": []}},
     {"headers": {"a": "x\r\ny: z"}}, {"query": {"q": {}}}, {"url": 3}, {"max_bytes": "x"}],
)  # fmt: skip
async def test_requests_that_make_no_sense(call: Any, site: Site, request_fields: dict[str, Any]) -> None:
    failure = await call(**request_fields)
    assert (failure.code, failure.retryable) == ("REQUEST_INVALID", False)
    assert site.requests == []


async def test_attempt_timeout_ends_a_slow_call(call: Any, site: Site) -> None:
    site.silent.clear()
    began = time.monotonic()
    failure = await call(lease_fields={"attempt_timeout": 0.15, "heartbeat_timeout": 0.01})
    site.silent.set()
    assert failure.code == "ATTEMPT_TIMEOUT", "heartbeat timeouts are for handlers"
    assert time.monotonic() - began < 2


def test_retry_after_in_both_forms() -> None:
    assert retry_after("120") == 120
    soon = retry_after(formatdate(time.time() + 100, usegmt=True))
    assert soon is not None
    assert 95 < soon <= 100
    assert retry_after(formatdate(0, usegmt=True)) == 0
    for text in (None, "", "soon", "-1", "9" * 12, "Fri, 99 Foo 2030"):
        assert retry_after(text) is None


def test_expectations() -> None:
    assert matches(204, ["2xx"])
    assert not matches(301, ["2xx", 300, "4xx"])
