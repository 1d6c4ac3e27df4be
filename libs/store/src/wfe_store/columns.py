"""What the tables of `wfe_store.schema` are put together from."""

from __future__ import annotations

from typing import Any

from sqlalchemy import TIMESTAMP, Column, MetaData, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

METADATA = MetaData()

MOMENT = TIMESTAMP(timezone=True)
TEXTS = ARRAY(Text)


def must(name: str, kind: type[TypeEngine[Any]] | TypeEngine[Any]) -> Column[Any]:
    """A column that is never null."""
    return Column(name, kind, nullable=False)


def may(name: str, kind: type[TypeEngine[Any]] | TypeEngine[Any]) -> Column[Any]:
    """A column that may be null."""
    return Column(name, kind, nullable=True)
