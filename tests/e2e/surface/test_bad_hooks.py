"""Rubbish under a good signature: whoever has a hook's secret may send any bytes, and is told what is wrong."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
from collections.abc import Iterator

import pytest
from calls import SOURCE
from test_bad_rest import BROKEN

GOOD = b'{"issue": {"title": "x", "number": 7}, "list": [1, 2, 3]}'
HOOKS = {
    "plain": {},
    "mapped": {"input": {"data": "body", "text": "string(body.issue.title)"}},
    "filtered": {"filter": "body.issue.number > 3 && body.list.all(x, x > 0)", "input": {"data": "body"}},
    "signals": {"signal": "go", "workflow": "body.issue.title"},
}


def bodies() -> Iterator[bytes]:
    yield from BROKEN
    for depth in (31, 33, 100, 500, 900, 989, 5_000):
        yield b'{"issue": ' * depth + b"1" + b"}" * depth
        yield b'{"list": ' + b"[" * depth + b"]" * depth + b"}"
    for value in (
        b"9007199254740993",
        b"-1e400",
        b"1e308",
        b'"\\u0000"',
        b'"\\ud800"',
        b"1" * 400,
        b'"' + b"x" * 150_000 + b'"',
        b'"' + b"x" * 300_000 + b'"',
    ):
        yield b'{"issue": {"title": ' + value + b', "number": ' + value + b'}, "list": [' + value + b"]}"
    yield b'{"issue": {"title": "a", "title": "b"}, "issue": 1}'
    yield b'{"$sealed": [], "issue": {"$blob": "x"}}'
    yield b'{"list": [' + b"1," * 200_000 + b"1]}"
    chance = random.Random(5)
    for _ in range(60):
        raw = bytearray(GOOD)
        for _ in range(chance.randint(1, 4)):
            at = chance.randint(0, len(raw))
            raw[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        yield bytes(raw)


@pytest.mark.parametrize("kind", HOOKS)
async def test_signed_rubbish(api, wanda, kind):
    name = f"t{random.randbytes(8).hex()}"
    template = await wanda.post("/api/v1/templates", {"source": SOURCE.format(name=name)})
    await wanda.post(f"/api/v1/templates/{template['id']}/publish")
    target = {} if "signal" in HOOKS[kind] else {"template_id": template["id"]}
    hook = await wanda.post("/api/v1/hooks", {"scheme": "github", **target, **HOOKS[kind]})
    room = asyncio.Semaphore(4)

    async def fault_of(body: bytes) -> str:
        digest = hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
        headers = {"x-hub-signature-256": f"sha256={digest}", "authorization": ""}
        async with room, asyncio.timeout(30):
            answer = await api.send("POST", f"/api/v1/hooks/{hook['id']}", body, headers)
        if answer.status < 300:
            return "" if json.loads(answer.body) else "no answer"
        fault = answer.refusal(400, 404, 409, 413)
        return f"{body[:60]!r}: {fault}" if fault else ""

    assert await fault_of(GOOD) == ""
    faults = [fault for fault in await asyncio.gather(*map(fault_of, bodies())) if fault]
    assert not faults, "\n".join(["", *faults])
