"""Gates that were open before gates had policies keep what they were."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import wfe_store
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from wfe_stack.postgres import create_database
from wfe_store.migrate import migrate, sqlalchemy_url


@pytest.mark.parametrize(
    ("policy", "who", "exclude"),
    [
        (
            '{"users":["ada"],"groups":["editors"],"roles":[],"exclude_starter":true}',
            ["u:ada", "g:editors"],
            ["run_starter"],
        ),
        ('{"users":[],"groups":[],"roles":["admin"],"exclude_starter":false}', ["r:admin"], []),
        ("{}", ["*"], ["run_starter"]),
    ],
)
def test_open_gates_keep_who_decides_them(postgres_server, policy, who, exclude):
    url = create_database(postgres_server, f"wfe_upgrade_{uuid.uuid4().hex[:8]}")
    config = Config()
    config.set_main_option("script_location", str(Path(wfe_store.__file__).parent / "migrations"))
    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql(
            "INSERT INTO gates (id, run_id, no, owner_id, path, status, title, policy, digest, started_by, created_at)"
            " VALUES (%(id)s, %(id)s, 1, %(id)s, 'g', 'open', 't', %(policy)s, 'd', %(id)s, clock_timestamp())",
            {"id": uuid.uuid4(), "policy": policy},
        )
        connection.commit()
    migrate(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT who, exclude, version, risk FROM gates").one()
    engine.dispose()
    assert tuple(found) == (who, exclude, 1, "medium")
