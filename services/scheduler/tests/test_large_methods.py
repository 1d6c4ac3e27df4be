"""Callbacks nobody gave out are refused before their bodies are read."""

from __future__ import annotations

import uuid

import pytest
from google.protobuf.struct_pb2 import Value
from wfe.api.v1.callback_service_pb2 import AnswerCallbackRequest
from wfe_engine.errors import NotFound
from wfe_scheduler.api.large import first_field, large_methods
from wfe_scheduler.callbacks import Callbacks


@pytest.mark.parametrize("token", ["", "abc", "ü" * 300])
def test_a_field_is_found_in_a_message(token):
    raw = AnswerCallbackRequest(payload=Value(string_value="x" * 100_000), token=token, code="C").SerializeToString()
    assert first_field(raw, 1) == token.encode()


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\xff" * 40, b"\x0a", b"\x08\x01", b"\x0a\xff\xff\xff\xff\x7f"])
def test_broken_messages_have_none(raw):
    assert first_field(raw, 1) == b""


def test_only_tokens_that_were_given_out_are_admitted():
    callbacks = Callbacks([b"k" * 32], "https://x.example")
    token = callbacks.url(uuid.uuid4(), "other").rpartition("/")[2]
    admit = large_methods(callbacks)["/wfe.api.v1.CallbackService/AnswerCallback"].admit
    assert admit is not None
    admit(AnswerCallbackRequest(token=token, payload=Value(string_value="x")).SerializeToString())
    for wrong in (token[:-1], ""):
        with pytest.raises(NotFound):
            admit(AnswerCallbackRequest(token=wrong, payload=Value(string_value="x")).SerializeToString())
