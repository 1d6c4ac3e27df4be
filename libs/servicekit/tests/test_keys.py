"""API keys: form, check, look-up, how long an answer of the store is used."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from wfe_engine.errors import Unauthenticated
from wfe_servicekit.auth import Authenticator, authenticator, new_key, parse_key
from wfe_servicekit.testing import ManualSeconds, MemoryDirectory


@pytest.fixture
def seconds() -> ManualSeconds:
    return ManualSeconds()


@pytest.fixture
def directory() -> MemoryDirectory:
    return MemoryDirectory()


@pytest.fixture
def who(directory: MemoryDirectory, seconds: ManualSeconds) -> Authenticator:
    return Authenticator(directory, now=seconds, monotonic=seconds)


def moment(seconds: ManualSeconds, later: float) -> datetime:
    return datetime.fromtimestamp(seconds() + later, UTC)


async def refuses(who: Authenticator, text: str | None) -> bool:
    try:
        await who.authenticate(text)
    except Unauthenticated as error:
        refusal = error
    else:
        return False
    assert (refusal.message, refusal.reason) == ("credentials are missing or not valid", "UNAUTHENTICATED")
    assert refusal.metadata == {}
    return True


def test_a_new_key_has_the_form_and_is_read_back() -> None:
    keys = [new_key() for _ in range(200)]
    assert len({key.text for key in keys}) == 200
    for key in keys:
        found = re.fullmatch(r"wfe_([0-9A-Za-z]{8})_([0-9A-Za-z]{43})_[0-9A-Za-z]{6}", key.text)
        assert found is not None
        assert key.key_id == found[1]
        assert key.hash == hashlib.sha256(found[2].encode()).digest()
        assert parse_key(key.text) == (key.key_id, key.hash)


def test_every_single_changed_character_is_noticed_without_the_store() -> None:
    text = new_key().text
    for position, character in enumerate(text):
        changed = text[:position] + ("x" if character != "x" else "y") + text[position + 1 :]
        with pytest.raises(Unauthenticated):
            parse_key(changed)
    for odd in ("", text[:-1], text + "0", text.upper(), f" {text}", text + "\n", text.replace("_", "-")):
        with pytest.raises(Unauthenticated):
            parse_key(odd)


async def test_a_made_up_key_with_a_wrong_check_never_reaches_the_store(
    who: Authenticator, directory: MemoryDirectory
) -> None:
    assert await refuses(who, f"Bearer wfe_{'A' * 8}_{'B' * 43}_000000")
    assert directory.asked == []


async def test_a_known_key_is_its_principal(who: Authenticator, directory: MemoryDirectory) -> None:
    text = directory.add_key("viewer", "operator", principal="bot", kind="agent", groups=frozenset({"g"}))
    for scheme in ("Bearer ", "bearer ", "BEARER   "):
        caller = await who.authenticate(scheme + text)
        assert (caller.principal, caller.kind, caller.groups) == ("bot", "agent", {"g"})
        assert caller.roles == {"viewer", "operator"}
        assert caller.key_id == text[4:12]


async def test_the_right_id_with_another_secret_is_refused(who: Authenticator, directory: MemoryDirectory) -> None:
    text = directory.add_key("admin")
    other = new_key()
    directory.keys[other.key_id] = directory.keys[text[4:12]]
    assert await refuses(who, f"Bearer {other.text}")


async def test_expired_revoked_and_disabled_keys_are_refused(
    who: Authenticator, directory: MemoryDirectory, seconds: ManualSeconds
) -> None:
    bad: list[dict[str, Any]] = [
        {"expires_at": moment(seconds, 0)},
        {"expires_at": moment(seconds, -86_400)},
        {"revoked_at": moment(seconds, -0.001)},
        {"disabled": True},
    ]
    for fields in bad:
        assert await refuses(who, f"Bearer {directory.add_key('admin', **fields)}"), fields
    good = directory.add_key("admin", expires_at=moment(seconds, 60), revoked_at=moment(seconds, 60))
    assert not await refuses(who, f"Bearer {good}")


async def test_a_key_stops_at_its_end_even_while_it_is_remembered(
    who: Authenticator, directory: MemoryDirectory, seconds: ManualSeconds
) -> None:
    for field in ("expires_at", "revoked_at"):
        header = f"Bearer {directory.add_key('admin', **{field: moment(seconds, 1.5)})}"
        assert not await refuses(who, header)
        seconds.seconds += 1.4
        assert not await refuses(who, header)
        seconds.seconds += 0.2
        assert who.recall(header) is None
        assert await refuses(who, header)


async def test_a_revoked_key_stops_within_five_seconds_however_often_it_is_used(
    who: Authenticator, directory: MemoryDirectory, seconds: ManualSeconds
) -> None:
    text = directory.add_key("admin")
    await who.authenticate(f"Bearer {text}")
    del directory.keys[text[4:12]]
    stopped = None
    for tenth in range(1, 60):
        seconds.seconds += 0.1
        if await refuses(who, f"Bearer {text}"):
            stopped = tenth / 10
            break
    assert stopped is not None
    assert stopped <= 4.1


async def test_the_time_counts_from_the_question_not_from_the_answer(
    who: Authenticator, directory: MemoryDirectory, seconds: ManualSeconds
) -> None:
    text = directory.add_key("admin")
    directory.gate = asyncio.Event()
    asking = asyncio.ensure_future(who.authenticate(f"Bearer {text}"))
    while not directory.asked:
        await asyncio.sleep(0)
    seconds.seconds += 3
    directory.gate.set()
    await asking
    seconds.seconds += 1.1
    assert who.recall(f"Bearer {text}") is None


async def test_the_cache_cannot_be_made_longer_than_four_seconds(
    directory: MemoryDirectory, seconds: ManualSeconds
) -> None:
    who = Authenticator(directory, cache_seconds=600, now=seconds, monotonic=seconds)
    header = f"Bearer {directory.add_key('admin')}"
    await who.authenticate(header)
    seconds.seconds += 4.01
    assert who.recall(header) is None


async def test_a_used_key_is_asked_for_once_and_again_when_time_is_up(
    who: Authenticator, directory: MemoryDirectory, seconds: ManualSeconds
) -> None:
    text = directory.add_key("admin")
    for _ in range(10):
        await who.authenticate(f"Bearer {text}")
    assert len(directory.asked) == 1
    seconds.seconds += 4.1
    await who.authenticate(f"Bearer {text}")
    assert len(directory.asked) == 2


async def test_an_unknown_key_is_remembered_for_a_while_too(
    who: Authenticator, directory: MemoryDirectory, seconds: ManualSeconds
) -> None:
    key = new_key()
    for _ in range(10):
        assert await refuses(who, f"Bearer {key.text}")
    assert directory.asked == [key.key_id]
    seconds.seconds += 4.1
    assert await refuses(who, f"Bearer {key.text}")
    assert len(directory.asked) == 2


async def test_calls_at_the_same_time_share_a_look_up_and_one_that_is_cancelled_spoils_nothing(
    who: Authenticator, directory: MemoryDirectory
) -> None:
    text = directory.add_key("admin")
    directory.gate = asyncio.Event()
    calls = [asyncio.ensure_future(who.authenticate(f"Bearer {text}")) for _ in range(50)]
    while not directory.asked:
        await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.sleep(0)
    directory.gate.set()
    callers = await asyncio.gather(*calls[1:])
    assert {caller.key_id for caller in callers} == {text[4:12]}
    assert calls[0].cancelled()
    assert len(directory.asked) == 1


async def test_a_failing_store_is_not_remembered(who: Authenticator, directory: MemoryDirectory) -> None:
    header = f"Bearer {directory.add_key('admin')}"
    directory.failure = ConnectionError()
    with pytest.raises(ConnectionError):
        await who.authenticate(header)
    directory.failure = None
    assert (await who.authenticate(header)).owner == "acme"


async def test_a_flood_of_unknown_keys_takes_bounded_room_and_pushes_out_no_real_one(
    who: Authenticator, directory: MemoryDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "MOST_ENTRIES", 50)
    text = directory.add_key("admin")
    await who.authenticate(f"Bearer {text}")
    for _ in range(500):
        assert await refuses(who, f"Bearer {new_key().text}")
    assert len(who._keys._unknown) <= 50
    assert who.recall(f"Bearer {text}") is not None
    for _ in range(200):
        await who.authenticate(f"Bearer {directory.add_key('viewer')}")
    assert len(who._callers) <= 50
    assert len(who._keys._known) <= 50
