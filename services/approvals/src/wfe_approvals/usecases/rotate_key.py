"""Make a key's successor."""

from __future__ import annotations

from datetime import timedelta

from wfe.api.v1 import identity_service_pb2 as pb
from wfe_servicekit.auth import new_key
from wfe_servicekit.calls import Caller, http_status
from wfe_servicekit.checks import Violations
from wfe_store.keys import Fresh, Keys

from wfe_approvals.inputs import parse_key_id, parse_span
from wfe_approvals.mapping import key_of

DEFAULT_OVERLAP = 3_600
LONGEST_OVERLAP = 604_800


async def rotate_key(keys: Keys, caller: Caller, request: pb.RotateKeyRequest) -> pb.Key:
    """Make a key's successor; the old one goes on working for the overlap. Answers 201, with the whole key.

    Raises:
        InvalidInput: With everything wrong in the request.
        NotFound: The caller's owner has no such key.
        StateConflict: It is revoked, expired, or has a successor.
    """
    faults = Violations()
    asked = request.overlap_seconds if request.HasField("overlap_seconds") else DEFAULT_OVERLAP
    with faults.collect():
        key_id = parse_key_id(request.id)
    with faults.collect():
        seconds = parse_span(asked, "overlap_seconds", longest=LONGEST_OVERLAP)
    faults.raise_if_any()
    fresh = new_key()
    made = await keys.rotate(
        caller.owner_id, key_id, Fresh(fresh.key_id, fresh.hash), overlap=timedelta(seconds=seconds)
    )
    http_status(201)
    return key_of(made, secret=fresh.text)
