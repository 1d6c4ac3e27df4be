"""The approvals service's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from wfe_egress import Guard
from wfe_servicekit.settings import ServiceSettings

from wfe_approvals.webhooks.verdict import SCHEDULE


class ApprovalsSettings(ServiceSettings):
    """Environment of an approvals service, beside what every service reads.

    Attributes:
        database_connections: Connections to the store, at most.
        expiry_seconds: Period of the search for gates past their deadline.
        agenda_seconds: Period of the search for gates to open, remind of and hand on.
        untold_seconds: Period of the search for decisions no scheduler has taken in.
        survey_seconds: Period of the look at all gates that metrics need.
        seal_key_file: File with the keys of the schedulers, too. Without it there are no webhooks and hooks.
        egress_allow: Networks, addresses and hosts inside that webhooks may call; see `wfe_egress.Guard`.
        webhook_http: Whether webhooks may be called without TLS.
        webhook_schedule: Seconds before each attempt of a delivery, as a JSON list; as many attempts as numbers.
        webhook_attempt_seconds: How long an attempt may take.
        webhook_at_once: Attempts under way to one receiver, at most.
        webhook_in_all: To all of them; slow and failing ones may take half of it.
        webhook_poll_seconds: Period of the search for events to tell and deliveries that are due.
        webhook_patience_days: How long a receiver may fail before its webhook is disabled.
        webhook_retention_days: How long deliveries are kept.
    """

    database_connections: int = Field(10, ge=1, le=100)
    expiry_seconds: float = Field(1.0, gt=0.05, le=60)
    agenda_seconds: float = Field(1.0, gt=0.05, le=60)
    untold_seconds: float = Field(1.0, gt=0.05, le=60)
    survey_seconds: float = Field(10.0, gt=0.05, le=600)
    seal_key_file: Path | None = None
    egress_allow: str = ""
    webhook_http: bool = False
    webhook_schedule: Annotated[tuple[Annotated[float, Field(ge=0, le=604_800)], ...], Field(min_length=1)] = SCHEDULE
    webhook_attempt_seconds: float = Field(15.0, gt=0.05, le=60)
    webhook_at_once: int = Field(8, ge=1, le=100)
    webhook_in_all: int = Field(1_000, ge=2, le=10_000)
    webhook_poll_seconds: float = Field(0.2, gt=0.01, le=60)
    webhook_patience_days: float = Field(5.0, gt=0, le=365)
    webhook_retention_days: float = Field(30.0, ge=3, le=3_650)

    @field_validator("egress_allow")
    @classmethod
    def _entries(cls, text: str) -> str:
        Guard(allow=text)
        return text
