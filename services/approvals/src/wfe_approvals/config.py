"""The approvals service's settings."""

from __future__ import annotations

from pydantic import Field
from wfe_servicekit.settings import ServiceSettings


class ApprovalsSettings(ServiceSettings):
    """Environment of an approvals service, beside what every service reads.

    Attributes:
        database_connections: Connections to the store, at most.
        expiry_seconds: Period of the search for gates past their deadline.
        agenda_seconds: Period of the search for gates to open, remind of and hand on.
        untold_seconds: Period of the search for decisions no scheduler has taken in.
        survey_seconds: Period of the look at all gates that metrics need.
    """

    database_connections: int = Field(10, ge=1, le=100)
    expiry_seconds: float = Field(1.0, gt=0.05, le=60)
    agenda_seconds: float = Field(1.0, gt=0.05, le=60)
    untold_seconds: float = Field(1.0, gt=0.05, le=60)
    survey_seconds: float = Field(10.0, gt=0.05, le=600)
