"""Logs: one line each, complete, without secrets, whatever is thrown at them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import structlog
from pydantic import SecretStr
from wfe_servicekit.auth import new_key
from wfe_servicekit.calls import Call, Caller, acting_as, call_var
from wfe_servicekit.logs import bound_contextvars, configure, get_logger, redact_text

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("scheduler", "debug", "json")

    def read() -> list[dict[str, Any]]:
        text = capsys.readouterr().out
        assert text.isascii()
        return [json.loads(line) for line in text.splitlines()]

    yield read
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_says_when_what_how_bad_and_which_service(lines: Lines) -> None:
    with bound_contextvars(run="r1", step="fetch"):
        get_logger("x").warning("lease_lost", losses=2)
    [line] = lines()
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "warning", "event": "lease_lost", "service": "scheduler", "run": "r1", "step": "fetch", "losses": 2
    }  # fmt: skip


def test_a_line_inside_a_call_says_who_calls_what(lines: Lines) -> None:
    caller = Caller(uuid4(), "acme", uuid4(), "ann", "person", frozenset(), frozenset())
    call = Call("/p.S/M", (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"), ("x-request-id", "q" * 200)))
    call.caller = caller
    token = call_var.set(call)
    get_logger().info("inside")
    call_var.reset(token)
    with acting_as(caller):
        get_logger().info("on behalf")
    get_logger().info("outside")
    inside, behalf, outside = lines()
    assert (inside["rpc"], inside["owner"], inside["principal"]) == ("/p.S/M", "acme", "ann")
    assert (inside["trace_id"], inside["request_id"]) == ("a" * 32, "q" * 64)
    assert (behalf["owner"], "rpc" in behalf) == ("acme", False)
    assert "owner" not in outside


def test_a_value_cannot_forge_a_line_or_reach_the_terminal(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    evil = 'x\n{"level":"info"}\r\x1b[31m\x85\u2028"'
    get_logger().info(evil, name=evil, **{evil: 1})
    [line] = lines()
    assert line["event"] == line["name"] == evil
    configure("scheduler", "info", "console")
    get_logger().info(evil, name=evil)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b[31m" not in out
    assert "\x85" not in out
    assert "\u2028" not in out


def test_values_are_cut(lines: Lines) -> None:
    get_logger().info("x" * 10_000_000, value="ü" * 9_000, many=list(range(5_000)), deep=nest(50))
    [line] = lines()
    assert len(line["event"]) == len(line["value"]) == 4_096
    assert len(line["many"]) == 100
    assert len(json.dumps(line)) < 60_000


def nest(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = {"a": value}
    return value


KEY = new_key().text
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLWNhbmFyeQ"


@pytest.mark.parametrize(
    ("text", "canary"),
    [
        (f"key {KEY} was used", KEY[13:56]),
        (f"Authorization: Bearer {JWT}", "c2lnbmF0dXJlLWNhbmFyeQ"),
        (f"token={JWT};", "c2lnbmF0dXJlLWNhbmFyeQ"),
        ("authorization: Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
        ("connect postgresql://wfe:hunter2@db:5432/wfe failed", "hunter2"),
        ("nats://executor:p%40ss@n:4222", "p%40ss"),
        ("host=db user=wfe password=hunter2 dbname=x", "hunter2"),
        ("password='hun ter2' x", "hun ter2"),
        ("PASSWORD: hunter2", "hunter2"),
        ("-----BEGIN PRIVATE KEY-----\nMIIcanary\n-----END PRIVATE KEY-----", "MIIcanary"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIcanary", "MIIcanary"),
    ],
    ids=lambda value: "key" if "wfe_" in value or value in KEY else value[:24],
)
def test_secrets_in_text_are_hidden_wherever_they_are(lines: Lines, text: str, canary: str) -> None:
    assert canary in text
    log = get_logger()
    log.info(text, plain=text, inner={"a": [text, {"b": (text,)}]}, thing=RuntimeError(text))
    logging.getLogger("library").warning("failed: %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("caught")
    everything = json.dumps(lines())
    assert canary not in everything
    assert everything.count("[redacted]") >= 7


def test_the_public_part_of_a_key_and_harmless_text_stay() -> None:
    assert redact_text(f"key {KEY}!") == f"key {KEY[:13]}[redacted]!"
    for text in ("https://example.com/a?b=c", "the secret of success", "a basic test", "postgresql://db/wfe"):
        assert redact_text(text) == text


def test_secrets_by_name_are_hidden(lines: Lines) -> None:
    names = ["authorization", "Authorization", "cookie", "password", "nats_password", "client_secret", "api_key",
             "database_url", "dsn", "token", "access_token", "x-webhook-signature", "private_key"]  # fmt: skip
    get_logger().info("x", **dict.fromkeys(names, "canary"), headers=dict.fromkeys(names, "canary"))
    get_logger().info("x", key_id="AbCdEfGh", tokens=3, secretary=SecretStr("canary"))
    first, second = lines()
    assert "canary" not in json.dumps([first, second])
    assert (second["key_id"], second["tokens"]) == ("AbCdEfGh", 3)


def test_the_end_of_a_long_traceback_is_kept(lines: Lines) -> None:
    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
        raise ValueError("x" * 3_000 + " the end")

    try:
        try:
            down(5)
        except ValueError as error:
            raise RuntimeError("y" * 3_000 + " last") from error
    except RuntimeError:
        get_logger().exception("caught")
    [line] = lines()
    assert len(line["exception"]) <= 4_096
    assert line["exception"].endswith(" last")


def test_levels_are_kept_and_other_libraries_are_written_the_same_way(lines: Lines) -> None:
    configure("scheduler", "warning", "json")
    get_logger().info("no")
    logging.getLogger("nats").info("no")
    logging.getLogger("nats").error("yes %d", 1)
    [line] = lines()
    assert (line["event"], line["logger"], line["level"], line["service"]) == ("yes 1", "nats", "error", "scheduler")


def test_odd_values_do_not_break_a_line(lines: Lines) -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd\ud800"

    get_logger().info("x", odd=Odd(), nan=float("nan"), raw=b"\x00\xff", none=None, keys={1: {2: 3}})
    [line] = lines()
    assert (line["odd"], line["none"], line["keys"]) == ("odd\ud800", None, {"1": {"2": 3}})
