"""SystemService: whether the engine is ready."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

from typing import Any

from wfe.api.v1 import system_service_pb2, system_service_pb2_grpc
from wfe_engine.errors import Unavailable

from wfe_scheduler.api.engine import Engine


class SystemService(system_service_pb2_grpc.SystemServiceServicer):  # type: ignore[misc]
    """Asks the engine for its parts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetReadiness(
        self, request: system_service_pb2.GetReadinessRequest, context: Any
    ) -> system_service_pb2.Readiness:
        """Every part, when all are ready.

        Raises:
            Unavailable: Some part is not; the metadata has all of them.
        """
        parts = await self._engine.readiness()
        wrong = [f"{name}: {state}" for name, state in parts.items() if state != "ok"]
        if wrong:
            raise Unavailable(f"not ready: {'; '.join(wrong)}", reason="NOT_READY", **parts)
        return system_service_pb2.Readiness(status="ready", parts=parts)
