from __future__ import annotations

import gzip
from typing import Any

import pytest
from wfe_egress import AnswerTooLarge, EgressDenied, Guard, guarded_session
from yarl import URL

LOOPBACK = Guard(allow="127.0.0.0/8")


async def test_one_inside_address_among_several_refuses_the_name(resolver: Any) -> None:
    resolver.names["mixed.example"] = [["8.8.8.8", "127.0.0.1"]]
    async with guarded_session(Guard(), resolver=resolver) as session:
        with pytest.raises(EgressDenied) as caught:
            await session.request("GET", "http://mixed.example/")
    assert caught.value.address == "127.0.0.1"
    assert caught.value.host == "mixed.example"
    assert caught.value.metadata["address"] == "127.0.0.1"


async def test_a_name_without_addresses_is_refused(resolver: Any) -> None:
    resolver.names["empty.example"] = [[]]
    async with guarded_session(Guard(), resolver=resolver) as session:
        with pytest.raises(EgressDenied, match="no address"):
            await session.request("GET", "http://empty.example/")


async def test_a_rebinding_name_is_connected_to_the_address_that_was_checked(
    resolver: Any, server: Any, make_reply: Any
) -> None:
    # The name is asked for once; had it been asked again for the connection, it would point elsewhere.
    server.answers["/"] = make_reply(200, b"checked")
    resolver.names["rebind.example"] = [["127.0.0.1"], ["10.255.255.1"]]
    async with guarded_session(LOOPBACK, resolver=resolver) as session:
        answer = await session.request("GET", f"http://rebind.example:{server.port}/")
        assert (answer.body, resolver.asked) == (b"checked", ["rebind.example"])
        with pytest.raises(EgressDenied):
            await session.request("GET", f"http://rebind.example:{server.port}/")


async def test_an_allowed_host_may_be_inside(resolver: Any, server: Any, make_reply: Any) -> None:
    server.answers["/"] = make_reply(200, b"hi")
    resolver.names |= {"hooks.internal": [["127.0.0.1"]], "other.internal": [["127.0.0.1"]]}
    async with guarded_session(Guard(allow="hooks.internal"), resolver=resolver) as session:
        assert (await session.request("GET", f"http://hooks.internal:{server.port}/")).status == 200
        for host in ("other.internal", "127.0.0.1"):
            with pytest.raises(EgressDenied):
                await session.request("GET", f"http://{host}:{server.port}/")


async def test_the_socket_itself_is_the_last_check(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded_session(Guard()) as session:
        monkeypatch.setattr(session._guard, "check_url", URL)
        with pytest.raises(EgressDenied):
            await session.request("GET", f"http://127.0.0.1:{server.port}/")
    assert server.requests == []


async def test_redirects_are_given_back_unless_asked_for(server: Any, make_reply: Any) -> None:
    server.answers["/a"] = make_reply(302, location="/b")
    server.answers["/b"] = make_reply(200, b"there")
    async with guarded_session(LOOPBACK) as session:
        url = f"http://127.0.0.1:{server.port}/a"
        assert (await session.request("GET", url)).status == 302
        answer = await session.request("GET", url, redirects=1)
        assert (answer.status, answer.body, answer.url.endswith("/b"), answer.hops) == (200, b"there", True, 1)


async def test_a_redirect_inside_is_refused(resolver: Any, server: Any, make_reply: Any) -> None:
    resolver.names["front.example"] = [["127.0.0.1"]]
    guard = Guard(allow="front.example")
    for location in (
        f"http://127.0.0.1:{server.port}/b",
        "http://169.254.169.254/",
        "ftp://x/",
        "http://u@front.example/",
        "http://[::2]@",
    ):
        server.answers["/a"] = make_reply(302, location=location)
        async with guarded_session(guard, resolver=resolver) as session:
            with pytest.raises(EgressDenied):
                await session.request("GET", f"http://front.example:{server.port}/a", redirects=3)
    assert all(b"GET /b" not in request for request in server.requests)


async def test_a_redirect_elsewhere_loses_credentials_and_303_loses_the_body(
    resolver: Any, server: Any, make_reply: Any
) -> None:
    resolver.names["b.example"] = [["127.0.0.1"]]
    server.answers["/a"] = make_reply(303, location=f"http://b.example:{server.port}/b")
    server.answers["/b"] = make_reply(200)
    async with guarded_session(Guard(allow="127.0.0.1"), resolver=resolver) as session:
        await session.request(
            "POST",
            f"http://127.0.0.1:{server.port}/a",
            body=b"x",
            headers={"Authorization": "s", "X-A": "1", "X-Key": "s"},
            redirects=2,
            private=("x-key",),
        )
    assert server.requests[1].startswith(b"GET /b")
    assert b"Authorization" not in server.requests[1]
    assert b"X-Key" not in server.requests[1]
    assert b"X-A: 1" in server.requests[1]


async def test_redirects_end(server: Any, make_reply: Any) -> None:
    server.answers["/a"] = make_reply(302, location="/a")
    async with guarded_session(LOOPBACK) as session:
        assert (await session.request("GET", f"http://127.0.0.1:{server.port}/a", redirects=3)).status == 302
    assert len(server.requests) == 4


async def test_bodies_are_bounded_also_when_they_unfold(server: Any, make_reply: Any) -> None:
    server.answers["/plain"] = make_reply(200, b"x" * 5000)
    server.answers["/bomb"] = make_reply(200, gzip.compress(b"x" * 5_000_000), content_encoding="gzip")
    server.answers["/endless"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 200_000
    async with guarded_session(LOOPBACK) as session:
        for path in ("plain", "bomb", "endless"):
            with pytest.raises(AnswerTooLarge) as caught:
                await session.request("GET", f"http://127.0.0.1:{server.port}/{path}", max_bytes=4999)
            assert caught.value.status == 200
        answer = await session.request("GET", f"http://127.0.0.1:{server.port}/plain", max_bytes=5000)
        assert len(answer.body) == 5000


async def test_nothing_comes_from_the_environment_and_no_cookies(
    server: Any, make_reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.answers["/"] = make_reply(200, set_cookie="a=b")
    async with guarded_session(LOOPBACK) as session:
        for _ in range(2):
            assert (await session.request("GET", f"http://127.0.0.1:{server.port}/")).status == 200
    assert all(b"ookie" not in request for request in server.requests)


async def test_calls_end_by_their_timeout(server: Any) -> None:
    server.answers["/"] = None  # never answers
    async with guarded_session(LOOPBACK) as session:
        with pytest.raises(TimeoutError):
            await session.request("GET", f"http://127.0.0.1:{server.port}/", timeout=0.05)


async def test_text_survives_any_charset(server: Any, make_reply: Any) -> None:
    server.answers["/latin"] = make_reply(200, "é".encode("latin-1"), content_type="text/plain; charset=latin-1")
    server.answers["/odd"] = make_reply(200, b"\xff", content_type="text/plain; charset=nonsense")
    async with guarded_session(LOOPBACK) as session:
        assert (await session.request("GET", f"http://127.0.0.1:{server.port}/latin")).text() == "é"
        assert (await session.request("GET", f"http://127.0.0.1:{server.port}/odd")).text() == "\ufffd"


async def test_a_stream_is_guarded_too_and_follows_nothing(server: Any, make_reply: Any) -> None:
    server.answers["/a"] = make_reply(302, b"there", location="/b")
    async with guarded_session(LOOPBACK) as session:
        answer = await session.stream("POST", f"http://127.0.0.1:{server.port}/a", headers={"X-A": "1"}, body=b"x")
        assert (answer.status, await answer.read()) == (302, b"there")
        with pytest.raises(EgressDenied):
            await session.stream("GET", "http://169.254.169.254/", headers={})
    assert b"X-A: 1" in server.requests[0]
