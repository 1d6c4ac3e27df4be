"""Parts that need no loop and no network."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wfe_bus import messages
from wfe_bus.messages import OUTPUT_BYTES, Failure
from wfe_executor.clock import StoreClock
from wfe_executor.link import backoff
from wfe_executor.outputs import clean, encoded, encoded_progress, failure, of_exception, pause
from wfe_executor.wire import Beat, Done, Frames, decode_from_worker, frame


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_frames_come_out_whole_however_they_are_cut(progress: list[bytes], size: int) -> None:
    sent = [Beat(number, said) for number, said in enumerate(progress)]
    stream = b"".join(frame(message) for message in sent)
    frames = Frames()
    got = [body for at in range(0, len(stream), size) for body in frames.feed(stream[at : at + size])]
    assert [decode_from_worker(body) for body in got] == sent


def test_done_carries_failures() -> None:
    done = Done(3, failure=failure("X", "why", details={"a": 1}), trace="t")
    assert decode_from_worker(frame(done)[4:]) == done


@given(st.text(st.characters(codec=None), max_size=50), st.integers(10, 100))
def test_clean_text_can_always_be_sent(text: str, limit: int) -> None:
    cleaned = clean(text * 10, limit)
    assert len(cleaned.encode()) <= limit
    assert "\0" not in cleaned


@given(st.text(st.characters(codec=None)), st.dictionaries(st.text(st.characters(codec=None)), st.floats()))
def test_any_failure_can_be_sent(text: str, details: dict[str, Any]) -> None:
    made = failure(text, text, retry_after=1.0, details=details)
    assert messages.decoder(Failure).decode(messages.encode(made)) == made


def test_exceptions_that_cannot_speak() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert of_exception(Mute()).message == "Mute"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(3, 3.0), (-1, 0.0), (float("nan"), None), (float("inf"), None), ("3", None), (None, None), (True, None),
     (10**9, 7 * 86400.0)],
)  # fmt: skip
def test_pauses_are_numbers_of_seconds_within_reason(value: Any, seconds: float | None) -> None:
    assert pause(value) == seconds


def test_outputs_have_an_edge() -> None:
    assert encoded("x" * (OUTPUT_BYTES - 2)) == b'"' + b"x" * (OUTPUT_BYTES - 2) + b'"'
    over = encoded("x" * (OUTPUT_BYTES - 1))
    assert isinstance(over, Failure)
    assert over.details["bytes"] == OUTPUT_BYTES + 1


def test_strange_values_never_raise() -> None:
    class Evil(dict[str, Any]):
        def items(self) -> Any:
            raise MemoryError("evil")

    assert isinstance(encoded(Evil(a=1)), Failure)
    assert isinstance(encoded_progress(Evil(a=1)), str)
    assert encoded_progress("x" * 20_000) == "it has 20002 bytes, at most 16384 are shown"


def test_the_store_clock_follows_the_best_sample() -> None:
    clock = StoreClock()
    true = time.time() + 1000
    clock.observe(true)
    clock.observe(true - 5)  # the same clock, five seconds on the way
    assert abs(clock.now() - true) < 1
    clock.observe(true + 50)
    assert abs(clock.now() - true - 50) < 1
    assert abs(clock.monotonic_at(clock.now() + 10) - time.monotonic() - 10) < 1
    clock._sampled -= 61
    clock.observe(true - 100)  # after a minute the newest counts, as clocks may be set back
    assert abs(clock.now() - true + 100) < 1


def test_backoff_grows_to_its_end() -> None:
    assert all(0.02 < backoff(0) <= 0.05 for _ in range(100))
    assert all(0.9 < backoff(99) <= 2 for _ in range(100))
