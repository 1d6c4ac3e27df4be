from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
import wfe_sdk
from hypothesis import given
from hypothesis import strategies as st
from wfe_sdk import Registry, RetryableError, StepContext, TerminalError, handler
from wfe_sdk.testing import run_handler, run_handler_async
from wfe_sdk.values import MAX_INTEGER, fault_in


def test_the_registry_knows_what_a_handler_takes() -> None:
    registry = Registry()

    @registry.handler("one")
    async def one(value: Any) -> Any: ...

    @registry.handler("two")
    def two(value: Any, ctx: StepContext) -> Any: ...

    @registry.handler("default")
    def default(value: Any, limit: int = 3) -> Any: ...

    @registry.handler("optional")
    def optional(value: Any, ctx: StepContext | None = None) -> Any: ...

    facts = {name: (registry.get(name).is_async, registry.get(name).wants_context) for name in registry.names()}
    assert facts == {
        "one": (True, False), "two": (False, True), "default": (False, False), "optional": (False, True),
    }  # fmt: skip
    assert registry.get("three") is None
    assert registry.handler("one")(one) is one


def test_functions_that_cannot_be_handlers_are_refused() -> None:
    registry = Registry()
    for bad in (lambda: 0, lambda a, b, c: 0, lambda a, *, key: 0):
        with pytest.raises(TypeError, match=r"\(input\) or \(input, ctx\)"):
            registry.handler("x")(bad)
    with pytest.raises(TypeError, match="needs a name"):
        handler(lambda value: value)  # type: ignore[arg-type]
    registry.handler("x")(lambda value: value)

    def other(value: Any) -> Any: ...

    with pytest.raises(ValueError, match="is both"):
        registry.handler("x")(other)


def test_error_codes_are_brought_into_form() -> None:
    assert str(TerminalError("card declined!", "no", details={"a": 1})) == "CARD_DECLINED: no"
    assert RetryableError("", retry_after=3).code == "HANDLER_ERROR"
    assert not TerminalError("X").retryable
    assert RetryableError("X", retry_after=2.5).retry_after == 2.5
    assert len(TerminalError("X" * 1000).code) == 64


FAULTS: list[tuple[Any, str]] = [
    (float("nan"), "output is nan"),
    ({"a": [1, float("inf")]}, "output.a[1] is inf"),
    ("a\0b", "NUL"),
    ({"k\0": 1}, "key that holds a NUL"),
    ("\ud800", "surrogate"),
    ({"x": {"\udfff": 1}}, "output.x has a key that"),
    ({1: 2}, "a key that is an int"),
    ({"$sealed": []}, "reserved"),
    ({"$sealedx": []}, "reserved"),
    (MAX_INTEGER + 1, "2^53"),
    ([-MAX_INTEGER - 1], "output[0] is an integer beyond"),
    (b"x", "a bytes, which is not JSON"),
    ({"a": {1, 2}}, "output.a is a set"),
    (object(), "an object"),
]


@pytest.mark.parametrize(("value", "words"), FAULTS)
def test_what_cannot_be_stored_is_named(value: Any, words: str) -> None:
    assert words in (fault_in(value) or "")


def test_values_that_contain_themselves_end() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert "deeper than 32" in (fault_in(ring) or "")


def test_depth_has_an_edge() -> None:
    value: Any = 1
    for _ in range(32):
        value = [value]
    assert fault_in(value) is None
    assert fault_in([value]) is not None


def test_a_forgotten_await_is_explained() -> None:
    async def forgotten() -> None: ...

    call = forgotten()
    assert "async def" in (fault_in(call) or "")
    call.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_passes_survives_json(value: Any) -> None:
    if fault_in(value) is None:
        assert json.loads(json.dumps(value, allow_nan=False).encode()) == value


@given(st.floats())
def test_floats_pass_if_finite(value: float) -> None:
    assert (fault_in(value) is None) == math.isfinite(value)


def test_run_handler_runs_both_kinds() -> None:
    async def doubles(value: int, ctx: StepContext) -> int:
        ctx.heartbeat({"at": ctx.attempt})
        return value * 2

    assert run_handler(doubles, 4, attempt=3).output == 8
    assert run_handler(doubles, 4, attempt=3).progress == ({"at": 3},)
    assert run_handler(lambda value: value, {"a": 1}).output == {"a": 1}


def test_run_handler_checks_what_the_executor_would_check() -> None:
    with pytest.raises(ValueError, match="output is nan"):
        run_handler(lambda value: float("nan"))
    with pytest.raises(LookupError, match="no handler 'nobody'"):
        run_handler("nobody")
    with pytest.raises(TerminalError):
        run_handler(lambda value: _raise(TerminalError("NO")))


async def test_run_handler_within_a_loop() -> None:
    async def slow(value: Any, ctx: StepContext) -> float:
        await asyncio.sleep(0)
        assert not ctx.cancelled
        return ctx.remaining() or 0

    with pytest.raises(RuntimeError, match="run_handler_async"):
        run_handler(slow)
    assert 0 < (await run_handler_async(slow, timeout=5)).output <= 5
    with pytest.raises(TimeoutError):
        await run_handler_async(lambda_forever, timeout=0.01)


async def lambda_forever(value: Any) -> None:
    await asyncio.Event().wait()


def _raise(error: Exception) -> None:
    raise error


def test_exports() -> None:
    assert all(hasattr(wfe_sdk, name) for name in wfe_sdk.__all__)
