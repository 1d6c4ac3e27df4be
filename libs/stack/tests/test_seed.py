from __future__ import annotations

import json
import stat

import psycopg
from wfe_servicekit.auth.keys import new_key
from wfe_stack.seed import PEOPLE, seed


def keys_in(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL").fetchone()[0]


async def test_the_starter_and_the_approver_are_two(database_url, tmp_path):
    keys = await seed(database_url, tmp_path / "keys.json")
    assert list(keys) == ["sam", "ada", "root"]
    roles = {person.name: set(person.roles) for person in PEOPLE}
    assert "approver" not in roles["sam"]
    assert "operator" not in roles["ada"]


async def test_seeding_again_changes_nothing(database_url, tmp_path):
    path = tmp_path / "keys.json"
    first = await seed(database_url, path)
    before = path.stat().st_mtime_ns
    assert await seed(database_url, path) == first
    assert path.stat().st_mtime_ns == before
    assert keys_in(database_url) == len(PEOPLE)


async def test_the_keys_file_is_private_also_after_somebody_opened_it(database_url, tmp_path):
    path = tmp_path / "keys.json"
    await seed(database_url, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    await seed(database_url, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_lost_keys_are_replaced_and_revoked(database_url, tmp_path):
    path = tmp_path / "keys.json"
    first = await seed(database_url, path)
    path.unlink()
    second = await seed(database_url, path)
    assert all(first[name] != second[name] for name in first)
    assert keys_in(database_url) == len(PEOPLE)


async def test_keys_of_another_database_are_replaced_and_others_are_kept(database_url, tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"sam": new_key().text, "ada": "nonsense", "mine": "wfe_kept"}))
    keys = await seed(database_url, path)
    assert len(set(keys.values())) == len(PEOPLE)
    assert json.loads(path.read_text()) == {"mine": "wfe_kept", **keys}
