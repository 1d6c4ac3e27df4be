"""A link is one address: programs get JSON there, browsers a page, and that page's form decides."""

from __future__ import annotations

import pytest
from google.api.httpbody_pb2 import HttpBody

FORM = {"content-type": "application/x-www-form-urlencoded"}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
LINK = "/api/v1/links/wfl_a-B_9"


@pytest.mark.parametrize(
    ("verb", "path", "headers", "body", "method"),
    [
        ("GET", LINK, {"accept": "*/*"}, None, "GetLink"),
        ("GET", LINK, {"accept": "application/json"}, None, "GetLink"),
        ("GET", LINK, {"accept": BROWSER}, None, "ShowLink"),
        ("GET", LINK, {"accept": "TEXT/HTML"}, None, "ShowLink"),
        ("GET", LINK + "/page", {"accept": "*/*"}, None, "ShowLink"),
        ("GET", LINK + "/page", {"accept": BROWSER}, None, "ShowLink"),
        ("POST", LINK, {"accept": BROWSER}, {"decision": "approve"}, "DecideByLink"),
        ("POST", LINK, {**FORM, "accept": BROWSER}, b"decision=approve", "AnswerLink"),
        ("POST", LINK, {"content-type": FORM["content-type"] + "; charset=utf-8"}, b"decision=approve", "AnswerLink"),
        ("POST", LINK + "/page", FORM, b"decision=approve", "AnswerLink"),
    ],
)
async def test_who_asks_for_what_gets_it(gateway, approvals, verb, path, headers, body, method):
    assert (await gateway.call(verb, path, body, headers)).status == 200
    (call,) = approvals.calls
    assert (call.method, call.request.token) == (method, "wfl_a-B_9")
    if method == "AnswerLink":
        assert call.request.body.data == body
        assert call.request.body.content_type.startswith(FORM["content-type"])


@pytest.mark.parametrize("path", ["/api/v1/links/a/b", "/api/v1/links/a/page/x", "/api/v1/links/", "/api/v1/links"])
async def test_a_browser_finds_no_more_paths_than_others(gateway, approvals, path):
    reply = await gateway.call("GET", path, None, {"accept": BROWSER})
    assert reply.error(404)["reason"] == "PATH_NOT_FOUND"
    assert approvals.calls == []


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "/api/v1/workflows"), ("POST", "/api/v1/links/a/b"), ("POST", "/api/v1/links/a?b=c"),
        ("PUT", LINK), ("POST", "/api/v1/workflows/r/approvals/g/approve"), ("POST", "/api/v1/links/%61"),
    ],
)  # fmt: skip
async def test_forms_decide_nothing_else(gateway, approvals, scheduler, verb, path):
    reply = await gateway.call(verb, path, b"decision=approve", FORM)
    assert reply.error(415)["reason"] == "UNSUPPORTED_MEDIA_TYPE"
    assert approvals.calls == scheduler.calls == []


@pytest.mark.parametrize("status", [200, 404, 409])
async def test_a_page_has_the_status_and_the_headers_it_is_given(gateway, approvals, status):
    async def page(_request, context):
        policy = ("content-security-policy", "default-src 'none'")
        await context.send_initial_metadata((("x-http-status", str(status)), policy))
        return HttpBody(content_type="text/html; charset=utf-8", data="<p>ü</p>".encode())

    approvals.answers["ShowLink"] = page
    reply = await gateway.call("GET", LINK, None, {"accept": BROWSER})
    assert (reply.status, reply.body.decode()) == (status, "<p>ü</p>")
    headers = {
        "content-type": "text/html; charset=utf-8", "content-security-policy": "default-src 'none'",
        "cache-control": "no-store", "referrer-policy": "no-referrer", "x-content-type-options": "nosniff",
        "x-robots-tag": "noindex",
    }  # fmt: skip
    assert {name: reply.headers.get(name) for name in headers} == headers
    assert "x-http-status" not in reply.headers
