"""BlobService: values that are too large for an answer, range by range."""

# ruff: noqa: N802, ARG002 - gRPC gives methods their names and arguments

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from wfe.api.v1 import blob_service_pb2 as pb
from wfe.api.v1 import blob_service_pb2_grpc
from wfe_engine.errors import NotFound
from wfe_servicekit.calls import current_caller
from wfe_servicekit.checks import Violations
from wfe_store.blobs import find_blob, read_range
from wfe_store.pool import Database

from wfe_scheduler.api import requests

#: Bytes of one answer.
MOST_RANGE = 1 << 20

_BLOB = re.compile(r"[0-9a-f]{32}")


class BlobService(blob_service_pb2_grpc.BlobServiceServicer):  # type: ignore[misc]
    """Reads from the store, scoped to the caller's owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetBlob(self, request: pb.GetBlobRequest, context: Any) -> pb.BlobRange:
        """A range of a value.

        Raises:
            InvalidInput: With everything wrong in the request.
            NotFound: The owner has no such run, or it no such value.
        """
        faults = Violations()
        run = requests.uuid(faults, request.id, "id")
        if not _BLOB.fullmatch(request.blob_id):
            faults.add("blob_id", "is not what a reference says: 32 hexadecimal digits")
        offset = requests.at_least(faults, request.offset, "offset", 0)
        limit = requests.at_least(faults, request.limit, "limit", 0)
        faults.raise_if_any()
        blob = UUID(request.blob_id)
        async with self._database.connection() as connection:
            total = await find_blob(connection, current_caller().owner_id, run, blob)
            if total is None:
                message = f"workflow {run} has no value {request.blob_id}"
                raise NotFound(message, workflow_id=run, blob_id=request.blob_id)
            data = await read_range(connection, run, blob, offset, min(limit or MOST_RANGE, MOST_RANGE))
        return pb.BlobRange(data=data, offset=offset, total=total)
