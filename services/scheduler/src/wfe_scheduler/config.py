"""The scheduler's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from wfe_servicekit.settings import ServiceSettings


class SchedulerSettings(ServiceSettings):
    """Environment of a scheduler, beside what every service reads.

    Attributes:
        lease_seconds: How long an executor may be silent before its steps are given to others.
        lease_losses: Leases after whose loss a step fails: it may be what kills its executors.
        sweep_seconds: Period of the search for what no message announced.
        cycles: Commits in flight at once.
        batch: Commands decided in one cycle, at most.
        cache_runs: Runs kept in memory, at most.
        snapshot_every: Events of a run between two periodic snapshots; 0 for none.
        connections: Connections to the store for reads and claims, at most; each cycle has one besides.
        overload_seconds: How long the oldest waiting command may wait before new ones are refused.
        owner_open_runs: Runs of one owner that have not ended, about; more starts are refused. 0 for no limit.
        owner_starts: Starts of one owner in a second, at each scheduler; more are refused. 0 for no limit.
        seal_key_file: File with 32 bytes in Base64, the key of sealed values. Without it templates with
            sensitive variables start no runs, and callbacks have no URLs.
        public_url: What the URLs of callbacks begin with: where the gateway is seen from outside.
        dispatch: held to start with dispatch held, e.g. after a restore: runs can be read and acted on, no step is
            handed out until `wfe admin dispatch release`. Take it out of the environment before that.
        survey_seconds: Period of the look at the whole store that metrics need.
    """

    lease_seconds: float = Field(15.0, gt=0.5, le=3600)
    lease_losses: int = Field(5, ge=1, le=100)
    sweep_seconds: float = Field(1.0, gt=0.05, le=60)
    cycles: int = Field(2, ge=1, le=8)
    batch: int = Field(512, ge=1, le=4096)
    cache_runs: int = Field(20_000, ge=100)
    snapshot_every: int = Field(200, ge=0)
    connections: int = Field(8, ge=2, le=100)
    overload_seconds: float = Field(2.0, gt=0, le=600)
    owner_open_runs: int = Field(2_000_000, ge=0)
    owner_starts: int = Field(5_000, ge=0)
    seal_key_file: Path | None = None
    public_url: str = "http://127.0.0.1:8080"
    dispatch: Literal["run", "held"] = "run"
    survey_seconds: float = Field(10.0, gt=0.05, le=600)
