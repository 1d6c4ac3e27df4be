"""Signatures: the specification's own vectors, rotation, v1a, and everything that must be refused."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook as Library
from standardwebhooks.webhooks import WebhookVerificationError
from wfe_approvals.webhooks.signing import (
    Signer,
    check_secret,
    fresh_key,
    signed_headers,
    verify_standard,
    verify_v1a,
)
from wfe_engine.errors import InvalidInput, Unauthenticated

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = '{"test": 2432232314}'


def call(body: str = BODY, *, at: float | None = None, secret: str = SECRET, **changed: str | None) -> dict:
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    headers = signed_headers([Signer(secret)], ID, body, moment)
    return {
        "message_id": headers["webhook-id"],
        "timestamp": headers["webhook-timestamp"],
        "signature": headers["webhook-signature"],
    } | changed


def test_the_vector_of_the_specification():
    moment = datetime.fromtimestamp(1614265330, UTC)
    assert Signer(SECRET).sign(ID, moment, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    # With and without its prefix, as the libraries of other languages take it.
    assert Signer(SECRET.removeprefix("whsec_")).sign(ID, moment, BODY) == Signer(SECRET).sign(ID, moment, BODY)


def test_what_is_signed_the_library_verifies():
    secret = fresh_key("v1").secret
    headers = signed_headers([Signer(secret)], ID, BODY, datetime.now(UTC))
    assert Library(secret).verify(BODY, headers) == {"test": 2432232314}


def test_a_good_call_gives_its_id():
    assert verify_standard(SECRET, BODY.encode(), **call()) == ID


@pytest.mark.parametrize("body", ['{"a":  1}', '{"ä": "é"}', "{}\r\n", '{"a":1.50}', ""])
def test_the_very_bytes_are_what_counts(body):
    assert verify_standard(SECRET, body.encode(), **call(body)) == ID
    with pytest.raises(Unauthenticated):
        verify_standard(SECRET, body.encode() + b" ", **call(body))


# The cases of the specification's libraries, and what theirs stumble over.
@pytest.mark.parametrize(
    "changed",
    [
        {"message_id": None}, {"timestamp": None}, {"signature": None}, {"message_id": ""}, {"signature": ""},
        {"signature": "v1,"}, {"signature": "v1"}, {"signature": "garbage"}, {"signature": "v1,%%%"},
        {"signature": "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="}, {"signature": "v1,a,b"},
        {"signature": "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {"signature": " ".join(["v1,AAAA"] * 9)}, {"signature": "v1," + "A" * 1100},
        {"timestamp": "hello"}, {"timestamp": ""}, {"timestamp": "-1"}, {"timestamp": "1e9"},
        {"timestamp": "1_614_265_330"}, {"timestamp": " 1614265330 "}, {"timestamp": "1614265330.9"},
        {"timestamp": "9" * 12}, {"timestamp": "9" * 13}, {"timestamp": "١٦١٤٢٦٥٣٣٠"}, {"message_id": "other"},
        {"message_id": "a b"}, {"message_id": "x" * 201},
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_like_what_is_wrong(changed):
    with pytest.raises(Unauthenticated) as refusal:
        verify_standard(SECRET, BODY.encode(), **call(**changed))
    assert refusal.value.message == "there is no such hook, or the signature is missing or not valid"


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(Unauthenticated):
        verify_standard(SECRET, b"\xff\xfe", **call())


@pytest.mark.parametrize(("off", "good"), [(-310, False), (-290, True), (290, True), (310, False)])
def test_five_minutes_of_tolerance(off, good):
    given = call(at=time.time() + off)
    if good:
        assert verify_standard(SECRET, BODY.encode(), **given) == ID
        return
    with pytest.raises(Unauthenticated):
        verify_standard(SECRET, BODY.encode(), **given)


def test_a_timestamp_of_its_own_does_not_fit_the_signature():
    given = call()
    with pytest.raises(Unauthenticated):
        verify_standard(SECRET, BODY.encode(), **given | {"timestamp": str(int(given["timestamp"]) + 1)})


def test_with_two_keys_receivers_with_either_are_served():
    old, new = fresh_key("v1"), fresh_key("v1")
    headers = signed_headers([Signer(new.secret), Signer(old.secret)], ID, BODY, datetime.now(UTC))
    assert len(headers["webhook-signature"].split(" ")) == 2
    for key in (old, new):
        assert Library(key.secret).verify(BODY, headers)
    given = {"timestamp": headers["webhook-timestamp"], "signature": headers["webhook-signature"]}
    assert verify_standard(old.secret, BODY.encode(), message_id=ID, **given) == ID
    with pytest.raises(Unauthenticated):
        verify_standard(fresh_key("v1").secret, BODY.encode(), message_id=ID, **given)


def test_v1a_is_verified_with_the_public_key():
    key = fresh_key("v1a")
    assert key.public_key.startswith("whpk_")
    headers = signed_headers([Signer(key.secret)], ID, BODY, datetime.now(UTC))
    stamp, signature = headers["webhook-timestamp"], headers["webhook-signature"]
    assert signature.startswith("v1a,")
    assert verify_v1a(key.public_key, ID, stamp, BODY.encode(), signature)
    assert verify_v1a(key.public_key, ID, stamp, BODY.encode(), f"v1a,AAAA v1,xx v1a,%% {signature}")
    assert not verify_v1a(key.public_key, ID, stamp, BODY.encode() + b" ", signature)
    assert not verify_v1a(key.public_key, "other", stamp, BODY.encode(), signature)
    assert not verify_v1a(fresh_key("v1a").public_key, ID, stamp, BODY.encode(), signature)


def test_only_moments_in_utc_are_signed():
    with pytest.raises(ValueError, match="UTC"):
        Signer(SECRET).sign(ID, datetime.now(timezone(timedelta(hours=2))), BODY)


def test_secrets_of_others():
    assert check_secret(SECRET) == SECRET
    for bad in ("whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%", "whsec_" + "A" * 400):
        with pytest.raises(InvalidInput):
            check_secret(bad)
    assert 24 <= len(base64.b64decode(fresh_key("v1").secret.removeprefix("whsec_"))) <= 64


def _now() -> dict[str, str]:
    return {f"webhook-{name.removeprefix('message_')}": value for name, value in call().items()}


@pytest.mark.parametrize(
    ("shape", "good"),
    [
        ("{0}", True),
        ("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= {0}", True),
        ("{0} v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=", True),
        ("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=", False),
        ("v1,dawfeoifkpqwoekfpqoekf", False),
        ("v1a,{1} {0}", True),
        ("v2,{1}", False),
        ("{1}", False),
    ],
)
def test_our_verdict_on_a_signature_is_the_librarys(shape, good):
    headers = _now()
    valid = headers["webhook-signature"]
    headers["webhook-signature"] = shape.format(valid, valid.partition(",")[2])
    for payload, verdict in ((BODY, good), (BODY + " ", False)):
        found = []
        for verify in (_ours, _the_librarys):
            try:
                verify(payload, headers)
            except (Unauthenticated, WebhookVerificationError, ValueError):  # it stumbles over what is no signature
                found.append(False)
            else:
                found.append(True)
        assert found == [verdict, verdict]


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_neither_takes_a_call_without_one_of_its_headers(name):
    headers = {key: value for key, value in _now().items() if key != name}
    with pytest.raises(Unauthenticated):
        _ours(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        _the_librarys(BODY, headers)


def _ours(body: str, headers: dict[str, str]) -> None:
    given = {
        name: headers.get(f"webhook-{name.removeprefix('message_')}")
        for name in ("message_id", "timestamp", "signature")
    }
    verify_standard(SECRET, body.encode(), **given)


def _the_librarys(body: str, headers: dict[str, str]) -> None:
    Library(SECRET).verify(body, headers)
