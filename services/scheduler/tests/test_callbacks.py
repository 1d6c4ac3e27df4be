"""Tokens of callbacks: what the engine made is read, and nothing else is, not even another spelling of it."""

from __future__ import annotations

import string
import uuid

from wfe_scheduler.callbacks import Callbacks

CALLBACKS = Callbacks([bytes(32)], "http://outside")


def token(run: uuid.UUID, name: str) -> str:
    return CALLBACKS.url(run, name).rpartition("/")[2]


def test_a_token_is_read_in_its_own_spelling_alone():
    letters = string.ascii_letters + string.digits + "-_"
    for number in range(50):
        run = uuid.UUID(int=number)
        made = token(run, "callback:scan" + "x" * (number % 3))
        assert CALLBACKS.read(made) == (run, "callback:scan" + "x" * (number % 3))
        others = {made[:-1] + letter for letter in letters} | {made + "=", made + "A", made[:-1]}
        others |= {made.replace("-", "+").replace("_", "/"), made.swapcase(), " " + made, made + "\n"}
        assert [other for other in others - {made} if CALLBACKS.read(other)] == []


def test_a_token_of_another_key_or_another_run_is_none():
    made = token(uuid.UUID(int=1), "callback:scan")
    other = token(uuid.UUID(int=2), "callback:scan")
    assert Callbacks([bytes(31) + b"x"], "").read(made) is None
    assert CALLBACKS.read(other[:22] + made[22:]) is None
    assert Callbacks([bytes(31) + b"x", bytes(32)], "").read(made) == (uuid.UUID(int=1), "callback:scan")
