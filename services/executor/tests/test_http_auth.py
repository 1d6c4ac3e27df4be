"""`http` steps: who makes the call, forms, redirects, and what their secrets leave behind."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from executor_fakes import FakeScheduler, lease
from site_of_tests import Site, serving
from wfe_bus.messages import SEALED

CANARY = "s3cret/canary+é"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as made:
        yield made


@pytest.fixture
async def call(scheduler: FakeScheduler, start: Any, site: Site) -> Any:
    executor = await start()

    async def once(path: str = "/", **request: Any) -> Any:
        request = {"url": f"{site.url}{path}"} | request
        step = lease(kind="http", request=msgspec.json.encode(request), sealed=True)
        scheduler.secrets[step.run] = {"TOKEN": CANARY}
        await scheduler.hand(executor.id, step)
        outcome = await scheduler.outcome(step)
        assert CANARY not in repr(outcome)
        return outcome.failure or json.loads(outcome.output)

    return once


def secret(*around: str) -> dict[str, Any]:
    parts: list[Any] = [{"secret": "TOKEN"}, *around]
    return {SEALED: parts}


def echo(request: web.Request, body: bytes) -> web.Response:
    return web.json_response(
        {"headers": {name.title(): text for name, text in request.headers.items()}, "body": body.decode()}
    )


async def test_bearer_basic_and_header_reach_the_other_side_and_nobody_else(call: Any, site: Site) -> None:
    site.answers["/"] = echo
    output = await call(auth={"bearer": {SEALED: ["x-", {"secret": "TOKEN"}]}})
    assert site.requests[-1][0].headers["Authorization"] == f"Bearer x-{CANARY}"
    assert output["body"]["headers"]["Authorization"] == "Bearer x-[redacted]"
    output = await call(auth={"header": {"name": "X-Key", "value": secret()}}, headers={"x-key": "other"})
    assert site.requests[-1][0].headers.getall("X-Key") == [CANARY]
    output = await call(auth={"basic": {"username": "bot", "password": secret()}})
    sent = site.requests[-1][0].headers["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"bot:{CANARY}"
    assert sent.removeprefix("Basic ") not in json.dumps(output)
    assert output["body"]["headers"]["Authorization"] == "Basic [redacted]"


async def test_a_secret_is_redacted_in_whatever_it_was_written(call: Any, site: Site) -> None:
    site.answers["/"] = lambda request, body: web.Response(body=b"\xff" + body, content_type="image/png")
    output = await call(method="POST", json={"key": secret("!")})
    assert json.loads(site.requests[-1][1]) == {"key": f"{CANARY}!"}
    assert "[redacted]" in output["body_base64"]
    site.answers["/"] = lambda request, body: web.Response(status=400, body=body)
    failure = await call(method="POST", form={"key": secret(), "n": [1, 2]})
    assert site.requests[-1][0].content_type == "application/x-www-form-urlencoded"
    assert site.requests[-1][1] == b"key=s3cret%2Fcanary%2B%C3%A9&n=1&n=2"
    assert (failure.code, failure.details["body"]) == ("HTTP_400", "key=[redacted]&n=1&n=2")


@pytest.mark.parametrize(
    "auth",
    [{}, {"bearer": "a", "header": {"name": "X", "value": "y"}}, {"bearer": "a\nb"}, {"bearer": " a"},
     {"header": {"name": "a b", "value": "x"}}, {"basic": {"username": "a:b", "password": "x"}},
     {"basic": {"username": "a"}}],
)  # fmt: skip
async def test_auth_that_makes_no_sense(call: Any, site: Site, auth: dict[str, Any]) -> None:
    assert (await call(auth=auth)).code == "REQUEST_INVALID"
    assert site.requests == []


async def test_redirects_are_followed_as_far_as_said(call: Any, site: Site) -> None:
    site.answers |= {
        "/a": lambda: web.Response(status=302, headers={"Location": "/b"}),
        "/b": lambda: web.Response(status=307, headers={"Location": "/c?x=1"}),
        "/c": echo,
    }  # fmt: skip
    assert (await call("/a")).code == "HTTP_302"
    assert (await call("/a", redirects=1)).code == "HTTP_307"
    output = await call("/a", redirects=2)
    assert (output["status"], output["url"]) == (200, f"{site.url}/c?x=1")
    assert "url" not in await call("/c", redirects=2)


@pytest.mark.parametrize(
    ("auth", "name"),
    [({"bearer": "token-1234"}, "Authorization"), ({"header": {"name": "X-Key", "value": "token-1234"}}, "X-Key")],
)
async def test_a_redirect_to_another_origin_goes_without_credentials(
    call: Any, site: Site, auth: dict[str, Any], name: str
) -> None:
    async with serving() as other:
        other.answers["/"] = echo
        site.answers |= {
            "/here": lambda: web.Response(status=302, headers={"Location": "/"}),
            "/there": lambda: web.Response(status=302, headers={"Location": f"{other.url}/"}),
            "/": echo,
        }  # fmt: skip
        assert (await call("/here", redirects=1, auth=auth))["body"]["headers"][name].endswith("token-1234")
        assert name not in (await call("/there", redirects=1, auth=auth))["body"]["headers"]


async def test_how_a_body_is_read(call: Any, site: Site) -> None:
    site.answers["/"] = lambda: web.Response(text='{"a": 1}')
    assert (await call(read="json"))["body"] == {"a": 1}
    assert (await call(read="text"))["body"] == '{"a": 1}'
    assert base64.b64decode((await call(read="bytes"))["body_base64"]) == b'{"a": 1}'
    site.answers["/"] = lambda: web.Response(text="<html>")
    failure = await call(read="json")
    assert (failure.code, failure.retryable, failure.details["body"]) == ("RESPONSE_INVALID", False, "<html>")
    assert (await call(read="xml")).code == "REQUEST_INVALID"


async def test_a_missing_secret_fails_the_step(scheduler: FakeScheduler, start: Any, site: Site) -> None:
    executor = await start()
    request = {"url": site.url, "auth": {"bearer": {SEALED: [{"secret": "GONE"}]}}}
    step = lease(kind="http", request=msgspec.json.encode(request), sealed=True)
    scheduler.missing[step.run] = ("GONE",)
    await scheduler.hand(executor.id, step)
    failure = (await scheduler.outcome(step)).failure
    assert (failure.code, failure.retryable, failure.details) == ("SECRET_MISSING", False, {"secrets": ["GONE"]})
    assert "GONE" in failure.message
    assert site.requests == []
