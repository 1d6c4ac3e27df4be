"""What bad requests get: a clear 4xx in JSON, never a 5xx, never a hang, and no service hears of them."""

from __future__ import annotations

import pytest

START = "/api/v1/workflows"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"template_id":', "Unexpected end of string"),
        (b"{template", "Expected"),
        (b"{} {}", "Parsing terminated"),
        (b"[]", "Root element must be a message"),
        (b"5", "Root element must be a message"),
        (b'"x"', "Root element must be a message"),
        (b'{"template_id": 5}', "template_id"),
        (b'{"template_id": {}}', "template_id"),
        (b'{"input": []}', "cannot start list"),
        (b'{"labels": []}', "labels"),
        (b'{"version": "x"}', "version"),
        (b'{"version": 1.5}', "version"),
        (b'{"version": 99999999999}', "99999999999"),
        (b'{"template_id": "\xff\xfe"}', "UTF-8"),
        (b"\xef\xbb\xbf\x00{}", ""),
        (b'{"input": {"a": ' + b"[" * 200 + b"]" * 200 + b"}}", "too deep"),
        (b'{"input": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "too deep"),
    ],
)
async def test_a_body_that_cannot_be_read(gateway, scheduler, body, says):
    error = (await gateway.call("POST", START, body)).error(400)
    assert (error["code"], error["reason"]) == (3, "INVALID_REQUEST")
    assert says in error["message"]
    assert not scheduler.calls


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("bogus=1", "bogus"),
        ("limit=abc", "limit"),
        ("limit=99999999999", "limit"),
        ("created_after=yesterday", "created_after"),
        ("limi%74=2", "escapes"),
        ("status=a&%6cimit=2", "escapes"),
        ("%", "escapes"),
    ],
)
async def test_a_query_that_cannot_be_read(gateway, scheduler, query, says):
    error = (await gateway.call("GET", f"{START}?{query}")).error(400)
    assert (error["code"], error["reason"]) == (3, "INVALID_REQUEST")
    assert says in error["message"]
    assert not scheduler.calls


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/workflows/y/pause", {"id": "x"}),
        ("POST", "/api/v1/workflows/y/approvals/a/approve", {"approval_id": "x"}),
        ("POST", "/api/v1/workflows/y/pause?id=x", {}),
        ("POST", "/api/v1/workflows/y/pause?i%64=x", {}),
        ("GET", "/api/v1/workflows/y?id=x", None),
        ("GET", "/api/v1/workflows/y?wait_seconds=0&id=x", None),
        ("GET", "/api/v1/templates/y/versions/1?version=2", None),
        ("DELETE", "/api/v1/groups/y/members/p?principal_id=x", None),
    ],
)
async def test_nothing_overrides_what_the_path_says(gateway, scheduler, approvals, method, path, body):
    error = (await gateway.call(method, path, body)).error(400)
    assert error["reason"] == "INVALID_REQUEST"
    assert not scheduler.calls
    assert not approvals.calls


async def test_the_same_id_in_path_and_body_is_no_collision(gateway, scheduler):
    assert (await gateway.call("POST", "/api/v1/workflows/y/pause", {"id": "y"})).status == 200


async def test_a_parameter_that_is_in_other_paths_only_passes(gateway, approvals):
    assert (await gateway.call("GET", "/api/v1/keys?principal_id=p")).status == 200
    assert approvals.calls[0].request.principal_id == "p"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nope"),
        ("GET", "/api/v1/nope"),
        ("GET", "/api/v2/workflows"),
        ("DELETE", START),
        ("PATCH", "/api/v1/workflows/y"),
        ("OPTIONS", START),
        ("TRACE", START),
        ("POST", "/healthz"),
        ("GET", "/admin"),
        ("GET", "/stats"),
        ("POST", "/wfe.api.v1.WorkflowService/StartWorkflow"),
        ("POST", "/wfe.internal.v1.Secret/Tell"),
        ("POST", "/grpc.health.v1.Health/Check"),
    ],
)
async def test_a_path_or_method_that_does_not_exist(gateway, scheduler, method, path):
    body = {} if method in ("POST", "PATCH") else None
    error = (await gateway.call(method, path, body)).error(404)
    assert (error["code"], error["reason"]) == (5, "PATH_NOT_FOUND")
    assert not scheduler.calls


async def test_head_of_what_only_get_has(gateway):
    assert (await gateway.call("HEAD", START)).status == 404


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/plain", None),
        ("application/x-www-form-urlencoded", None),
        ("application/jsonp", None),
        ("application/json", "gzip"),
        ("", None),
    ],
)
async def test_a_body_that_is_not_json(gateway, scheduler, content_type, encoding):
    headers = {"content-type": content_type} | ({"content-encoding": encoding} if encoding else {})
    error = (await gateway.call("POST", START, b"{}", headers)).error(415)
    assert (error["code"], error["reason"]) == (3, "UNSUPPORTED_MEDIA_TYPE")
    assert not scheduler.calls


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_by_any_spelling(gateway, content_type):
    assert (await gateway.call("POST", START, b"{}", {"content-type": content_type})).status == 200


async def test_no_body_is_an_empty_one(gateway, scheduler):
    for headers in (b"", b"content-length: 0\r\n", b"content-length: 0\r\ncontent-type: text/plain\r\n"):
        reply = await gateway.raw(
            b"POST /api/v1/workflows/y/pause HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + headers + b"\r\n"
        )
        assert reply.status == 200, reply
    assert {call.request.id for call in scheduler.calls} == {"y"}


@pytest.mark.parametrize("framing", [b"content-length: 50000000\r\n", b"transfer-encoding: chunked\r\n"])
async def test_fifty_megabytes(gateway, scheduler, framing):
    part = b'{"x": "' + b"a" * 99_993
    chunked = b"%x\r\n" % len(part) + part + b"\r\n" if b"chunked" in framing else part
    head = b"POST /api/v1/workflows HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" + framing
    reply = await gateway.raw(head + b"\r\n", more=(chunked for _ in range(500)))
    error = reply.error(413)
    assert (error["code"], error["reason"]) == (3, "BODY_TOO_LARGE")
    assert not scheduler.calls


async def test_a_body_just_below_the_limit_passes(gateway, scheduler):
    size = (20 << 20) - 100
    assert (await gateway.call("POST", START, {"input": {"a": "x" * size}})).status == 200
    assert len(scheduler.calls[0].request.input["a"]) == size


async def test_only_what_takes_large_values_has_the_large_limit(gateway, scheduler):
    for path, size, status in (
        ("/api/v1/workflows/y/signals/go", 3 << 20, 200),
        ("/api/v1/workflows/y/steps/1/complete", 3 << 20, 200),
        ("/api/v1/workflows/y/steps/1/retry", 3 << 20, 200),
        ("/api/v1/callbacks/t", 3 << 20, 200),
        ("/api/v1/callbacks/t", 21 << 20, 413),
        ("/api/v1/workflows/y/pause", 3 << 20, 413),
        ("/api/v1/templates", 3 << 20, 413),
    ):
        text = {"reason": "x" * size} if "pause" in path else {"source": "x" * size} if "temp" in path else {}
        reply = await gateway.call("POST", path, text or {"payload": "x" * size})
        assert reply.status == status, (path, reply)
    assert (await gateway.call("PUT", "/api/v1/workflows/y/signals/go", {})).status == 404


@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        (b"GET /api/v1/self HTTP/1.1\r\nhost: x\r\nx_under: 1", 400, "INVALID_HEADER"),
        (b"GET /api/v1/self HTTP/1.1\r\nhost: x\r\nidempotency_key: 1", 400, "INVALID_HEADER"),
        (b"GET /api/v1/workflows/a%2fb HTTP/1.1\r\nhost: x", 400, "INVALID_PATH"),
        (b"GET /api/v1/workflows/a%5Cb HTTP/1.1\r\nhost: x", 400, "INVALID_PATH"),
        (b"GET /api/v1/workflows/a%00b HTTP/1.1\r\nhost: x", 400, "INVALID_REQUEST"),
        (b"GET /api/v1/self HTTP/1.1", 400, "INVALID_HTTP"),
        (b"GET /api/v1/self HTTP/1.1\r\nhost: x\r\nx-a: \x00", 400, "INVALID_HTTP"),
        (b"GET /api/v1/self HTTP/1.1\r\nhost: x\r\nx a: 1", 400, "INVALID_HTTP"),
        (b"FOO /api/v1/self HTTP/1.1\r\nhost: x", 400, "INVALID_HTTP"),
        (b"nonsense", 400, "INVALID_HTTP"),
        (
            b"POST /api/v1/workflows HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked",
            400,
            "INVALID_HTTP",
        ),
        (b"GET /api/v1/self HTTP/1.0\r\nhost: x", 426, "UPGRADE_REQUIRED"),
        (b"GET /api/v1/self HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 40_000, 431, "HEADERS_TOO_LARGE"),
        (b"GET /api/v1/self HTTP/1.1\r\nhost: x" + b"\r\nx-a: 1" * 101, 431, "HEADERS_TOO_LARGE"),
    ],
)
async def test_http_that_is_not_proper(gateway, approvals, head, status, reason):
    error = (await gateway.raw(head + b"\r\n\r\n")).error(status)
    assert error["reason"] == reason
    assert not approvals.calls


async def test_an_upgrade_is_ignored_and_does_not_hang(gateway):
    reply = await gateway.raw(
        b"GET /api/v1/self HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n"
        b"connection: upgrade, close\r\nsec-websocket-version: 13\r\n\r\n"
    )
    assert reply.status == 200


async def test_slashes_beside_each_other_are_one(gateway, approvals):
    assert (await gateway.call("GET", "//api/v1//self")).status == 200
    assert approvals.calls[0].method == "GetSelf"


@pytest.mark.parametrize("dots", ["..", ".", "%2e%2e", ".%2E", "%2e", "..;", "..;x=1", ".;", "..%3b", "%2e.;/x/..;"])
async def test_no_path_becomes_another_by_its_dots(gateway, scheduler, approvals, dots):
    for target in (
        f"POST /api/v1/workflows/y/steps/{dots}/retry",
        f"GET /api/v1/workflows/{dots}/self",
        f"GET /{dots}/api/v1/self",
        f"GET /healthz/{dots}",
        f"GET /api/v1/openapi.json/{dots}/self?limit=1",
    ):
        head = f"{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        error = (await gateway.raw(head.encode())).error(400)
        assert error["reason"] == "INVALID_REQUEST"
        assert "segment" in error["message"]
    assert not scheduler.calls
    assert not approvals.calls


@pytest.mark.parametrize("name", ["...", ".a", "a.", "a..b", "..a", "a;..", "v1.2"])
async def test_dots_in_a_name_are_a_part_of_it(gateway, scheduler, name):
    assert (await gateway.call("GET", f"/api/v1/workflows/{name}")).status == 200
    assert scheduler.calls[0].request.id == name


async def test_headers_that_steer_envoy_or_grpc_are_nobodys_to_send(gateway, approvals):
    headers = {
        "x-http-status": "418",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-original-path": "/x",
        "x-envoy-retry-on": "5xx",
        "grpc-timeout": "1n",
        "grpc-encoding": "nonsense",
        "grpc-status-details-bin": "!",
        "x-trace-bin": "!!!",
        "authorization": "Bearer é",
    }
    reply = await gateway.call("GET", "/api/v1/self", headers=headers)
    assert reply.status == 200
    metadata = approvals.calls[0].metadata
    assert metadata["x-envoy-original-path"] == "/api/v1/self"
    assert not {"x-http-status", "x-trace-bin", "x-envoy-retry-on"} & set(metadata)


@pytest.mark.parametrize("name", ["^a", "a|b", "a~", "!", "x$y%z&a'b*c+d`"])
async def test_headers_whose_names_grpc_does_not_know_are_dropped(gateway, approvals, name):
    reply = await gateway.call("GET", "/api/v1/self", headers={name: "1", "x-kept": "2"})
    assert reply.status == 200
    assert approvals.calls[0].metadata["x-kept"] == "2"
    assert name not in approvals.calls[0].metadata


async def test_a_service_that_is_not_there(lonely_gateway):
    error = (await lonely_gateway.call("GET", "/api/v1/self")).error(503)
    assert (error["code"], error["reason"]) == (14, "SERVICE_UNAVAILABLE")
    assert "127.0.0.1" not in error["message"]
