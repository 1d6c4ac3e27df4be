"""Keys of issuers that are fetched from a URL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from joserfc.jwk import ECKey, OKPKey, RSAKey
from wfe_engine.errors import Unavailable
from wfe_servicekit.auth import parse_issuers
from wfe_servicekit.auth.tokens import JwksSource
from wfe_servicekit.testing import ManualSeconds

ISSUER = "https://id.example.com"
ALGORITHMS = {"RS256": ("RSA", 2048), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}
CLASSES: dict[str, Any] = {"RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}
KEYS = {alg: cls.generate_key(ALGORITHMS[alg][1], {"kid": "k1", "use": "sig"}) for alg, cls in CLASSES.items()}
OTHER = {alg: cls.generate_key(ALGORITHMS[alg][1], {"kid": "k1"}) for alg, cls in CLASSES.items()}


@asynccontextmanager
async def jwks_server(answer: Callable[[], web.Response]) -> AsyncIterator[tuple[str, list[str]]]:
    asked: list[str] = []

    async def keys(request: web.Request) -> web.Response:
        asked.append(request.path)
        return answer()

    app = web.Application()
    app.router.add_get("/{tail:.*}", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/keys", asked
    finally:
        await runner.cleanup()


def url_issuer(url: str) -> Any:
    entry = {"issuer": ISSUER, "audience": "wfe", "jwks_url": url, "algorithms": ["ES256"], "owner": "acme"}
    return parse_issuers([entry])[0]


async def test_keys_are_fetched_once_and_for_an_unknown_kid_at_most_once_a_minute() -> None:
    published = [KEYS["ES256"].as_dict(private=False)]
    async with jwks_server(lambda: web.json_response({"keys": published})) as (url, asked):
        seconds = ManualSeconds()
        jwks = JwksSource(url_issuer(url), seconds)
        for _ in range(3):
            assert await jwks.find("k1") is not None
        assert len(asked) == 1
        published.append(ECKey.generate_key("P-256", {"kid": "k2"}).as_dict(private=False))
        assert await jwks.find("k2") is None
        assert len(asked) == 1
        seconds.seconds += 61
        assert await jwks.find("k2") is not None
        for _ in range(20):
            assert await jwks.find("k3") is None
        assert len(asked) == 2
        seconds.seconds += 3_601
        assert await jwks.find("k1") is not None


@pytest.mark.parametrize(
    "bad",
    [
        lambda: web.Response(status=500),
        lambda: web.Response(text="no json"),
        lambda: web.Response(status=302, headers={"location": "/elsewhere"}),
        lambda: web.Response(body=b" " * (1 << 20) + b'{"keys": []}'),
    ],
    ids=["500", "text", "redirect", "too-large"],
)
async def test_an_issuer_that_does_not_answer_is_unavailable_and_tried_again(bad: Any) -> None:
    answers: list[Any] = [bad]
    good = {"keys": [KEYS["ES256"].as_dict(private=False)]}
    async with jwks_server(lambda: answers[-1]()) as (url, asked):
        seconds = ManualSeconds()
        jwks = JwksSource(url_issuer(url), seconds)
        for _ in range(5):
            with pytest.raises(Unavailable):
                await jwks.find("k1")
        assert asked == ["/keys"]
        seconds.seconds += 6
        answers.append(lambda: web.json_response(good))
        assert await jwks.find("k1") is not None
        # Once there was an answer, it is used while the issuer is away.
        answers.append(bad)
        seconds.seconds += 4_000
        assert await jwks.find("k1") is not None
        assert await jwks.find("k9") is None
