"""Who may do what: every call × every identity × own, another owner's, missing and malformed things, on every way in.

Whoever may not make a call is answered the same whatever it names, so nobody learns what there is. Whoever may is told
of another owner's thing what is told of a missing one. A call without a row in test_access.MAY fails test_access.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from calls import CALLS, PUBLIC, Answer, Api, Fields, id_fields, make_things, message_of, part_of, request_of
from test_access import MAY, ROLES
from test_owners import _OF_THE_MOMENT, ACCEPTED, pair
from wfe_servicekit.policy import POLICY
from wfe_stack.rest import Rest

WAYS = ("rest", "gateway", "port")
UNKNOWN = ("nobody", "made up", "revoked", "disguised")
IDENTITIES = (*ROLES, "nothing", *UNKNOWN)
KINDS = ("own", "other's", "missing", "malformed")
METHODS = sorted(set(CALLS) - PUBLIC)
#: A stream that goes on.
_NOT_OWN = {"WatchWorkflow"}
#: What is asked for somebody else, which only an administrator may.
_REFUSED_ANYHOW = {("approver", "IssueLink")}
#: Of the same owner's, but of another person: as good as missing.
_ANOTHERS = {("approver", "RevokeDelegation")}
Said = tuple[Any, ...]


@pytest.fixture(scope="module")
async def identities(wanda: Rest) -> dict[str, dict[str, str]]:
    """Headers of principals with one role, with none, and of those who are nobody."""
    found = {}
    for role in (*ROLES, "nothing"):
        name = f"matrix-{role}-{uuid.uuid4().hex[:8]}"
        person = await wanda.post("/api/v1/principals", {"name": name, "roles": [role] if role in ROLES else []})
        key = await wanda.post("/api/v1/keys", {"principal_id": person["id"]})
        found[role] = {"authorization": f"Bearer {key['secret']}"}
    revoked = await wanda.post("/api/v1/keys", {"principal_id": person["id"]})
    await wanda.post(f"/api/v1/keys/{revoked['id']}/revoke")
    found["revoked"] = {"authorization": f"Bearer {revoked['secret']}"}
    found["made up"] = {"authorization": f"Bearer wfe_{'0' * 40}"}
    found["nobody"] = {}
    # Headers by which proxies, and engines that trust theirs, name the caller.
    found["disguised"] = {
        "x-wfe-owner": "surface",
        "x-wfe-principal": "wanda",
        "x-wfe-roles": "admin",
        "x-forwarded-user": "wanda",
        "x-forwarded-email": "wanda@example.com",
        "x-auth-request-user": "wanda",
        "x-remote-user": "wanda",
        "x-original-url": "/readyz",
        "x-rewrite-url": "/readyz",
        "x-forwarded-for": "127.0.0.1",
        "x-envoy-internal": "true",
        "x-envoy-original-path": "/readyz",
        "x-ext-authz": "ok",
        "proxy-authorization": "Bearer " + "0" * 40,
        "cookie": "authorization=Bearer",
    }
    return found


@pytest.fixture(scope="module")
async def strangers(rest_as, token):
    """Things of another owner."""
    return await make_things(rest_as("stranger"), token)


def fields_of(kind: str, method: str, name: str, things: Any, strangers: Any) -> Fields:
    """The request of a method, of which one id is of a kind."""
    if kind == "own":
        return things.fields(method)
    other, missing = pair((strangers, things), method, name)
    if kind == "malformed":
        return {**things.fields(method), name: "not-an-id"}
    return other if kind == "other's" else missing


async def over_rest(api: Api, method: str, fields: Fields, name: str, headers: dict[str, str]) -> Said:
    """Status, headers and body, without the id and the moment."""
    verb, target, body = request_of(method, fields)
    answer: Answer = await api.send(verb, target, body, headers)
    heads = tuple(sorted((k, v) for k, v in answer.headers.items() if k not in _OF_THE_MOMENT | {"content-length"}))
    return answer.status, heads, answer.body.replace(str(fields.get(name, "\0")).encode(), b"ID")


async def over_grpc(channel: Any, method: str, fields: Fields, name: str, headers: dict[str, str]) -> Said:
    """Code, message and details, without the id."""
    call = CALLS[method]
    make = channel.unary_stream if call.method.server_streaming else channel.unary_unary
    answering = make(f"/{call.service}/{method}")(
        message_of(method, fields).SerializeToString(), metadata=list(headers.items()), timeout=20
    )
    ident = str(fields.get(name, "\0"))
    try:
        await (answering.read() if call.method.server_streaming else answering)
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return error.code(), str(error.details()).replace(ident, "ID"), details.replace(ident.encode(), b"ID")
    return grpc.StatusCode.OK, "", b""


_STATUS = {grpc.StatusCode.OK: 200, grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.PERMISSION_DENIED: 403,
           grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.INVALID_ARGUMENT: 400}  # fmt: skip


@pytest.fixture(scope="module")
async def send(stack, http, identities):
    """Sends a call one way in, as an identity; gives its status and everything it said."""
    channels = {"gateway": grpc.aio.insecure_channel(stack.grpc)}
    for part in ("scheduler", "approvals"):
        channels[part] = grpc.aio.insecure_channel(stack.service(part))
    api = Api(http, stack.url, None)

    async def sent(way: str, who: str, method: str, fields: Fields, name: str) -> tuple[int, Said]:
        headers = identities[who]
        if way == "rest":
            said = await over_rest(api, method, fields, name, headers)
            return said[0], said
        channel = channels["gateway" if way == "gateway" else part_of(method)]
        said = await over_grpc(channel, method, fields, name, headers)
        return _STATUS.get(said[0], 500 if said[0].name in ("UNKNOWN", "INTERNAL") else 409), said

    yield sent
    for channel in channels.values():
        await channel.close()


def allowed(who: str, method: str) -> bool:
    row = MAY[method] or ""
    return who in row.split() or (who == "nothing" and method == "GetSelf")


def test_the_table_is_the_policy_of_the_services():
    for method, binding in CALLS.items():
        row = POLICY[f"/{binding.service}/{method}"]
        if isinstance(row, frozenset):
            assert set((MAY[method] or "").split()) == set(row), method
        else:
            assert method in PUBLIC or method in ("GetSelf", "ValidateTemplate"), method


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", IDENTITIES)
async def test_who_may_not_learns_nothing(send, things, strangers, who: str, way: str):
    """401 or 403 and the same words for own, other's, missing and malformed things alike."""
    wrong: dict[Any, Any] = {}
    expected = 401 if who in UNKNOWN else 403

    async def tried(method: str) -> None:
        said = {}
        for name in list(id_fields(method)) or [""]:
            for kind in KINDS if name else ("own",):
                status, answer = await send(way, who, method, fields_of(kind, method, name, things, strangers), name)
                if status != expected:
                    wrong[method, name, kind] = answer
                said[answer] = (name, kind)
        if len(said) > 1:
            wrong[method] = said

    await asyncio.gather(*(tried(method) for method in METHODS if not allowed(who, method)))
    assert wrong == {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", ROLES)
async def test_who_may_is_told_of_others_things_as_of_missing_ones(send, things, strangers, who: str, way: str):
    wrong: dict[Any, Any] = {}

    async def tried(method: str, name: str) -> None:
        said = {}
        for kind in ("other's", "missing"):
            status, said[kind] = await send(way, who, method, fields_of(kind, method, name, things, strangers), name)
            fits = (
                status == 403 if (who, method) in _REFUSED_ANYHOW else (status != 404) == ((method, name) in ACCEPTED)
            )
            if not fits:
                wrong[method, name, kind] = said[kind]
        if said["other's"] != said["missing"]:
            wrong[method, name] = said
        status, answer = await send(way, who, method, fields_of("malformed", method, name, things, strangers), name)
        if status not in (400, 404) and (who, method) not in _REFUSED_ANYHOW:
            wrong[method, name, "malformed"] = answer

    cases = [(method, name) for method in METHODS if allowed(who, method) for name in id_fields(method)]
    await asyncio.gather(*(tried(*case) for case in cases))
    assert wrong == {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", ROLES)
async def test_who_may_gets_at_its_own(send, new_things, who: str, way: str):
    """One call after the other, on things of its own; what one call changed, a later one may find closed."""
    own = await new_things()
    wrong: dict[Any, Any] = {}
    # What takes things away comes last.
    for method in sorted(METHODS, key=lambda method: method.startswith("Delete")):
        if not allowed(who, method) or method in _NOT_OWN:
            continue
        status, answer = await send(way, who, method, own.fields(method), "")
        if who == "admin" and status == 403:
            # The gates ask approvers, and an administrator is none.
            assert "you are not among the approvers" in str(answer), method
        elif (who, method) in _REFUSED_ANYHOW:
            assert status == 403, method
        elif (who, method) in _ANOTHERS:
            assert status == 404, method
        elif status in (401, 403, 404) or status >= 500:
            if "STEP_NOT_LIVE" in str(answer):
                continue  # it was settled, or its run ended, by a call before this one
            wrong[method] = answer
    assert wrong == {}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/self/",
        "/API/v1/self",
        "/api/v1/workflows/../principals",
        "/api/v1/workflows/%2e%2e/principals",
        "/api/v1/workflows/..;/principals",
        "/api/v1/workflows%2f..%2fprincipals",
        "/api/v1//principals",
        "/api/v1/callbacks/../principals",
        "/readyz/../api/v1/principals",
        "/api/v1/openapi.json/../principals",
        "/healthz/..%2fapi/v1/principals",
        "/wfe.api.v1.IdentityService/ListPrincipals",
        "//api/v1/principals",
        "/api/v1/principals;x=1",
        "/api/v1/principals%00",
        "/api/v1/./principals",
        "/api/v1/principals#x",
        "/\\api\\v1\\principals",
    ],
)
@pytest.mark.parametrize("who", ["nobody", "disguised", "viewer"])
async def test_no_path_leads_around(stack, http, identities, who: str, path: str):
    """However a path is spelled, whoever may not list principals does not."""
    for verb in ("GET", "POST", "HEAD", "OPTIONS"):
        answer = await Api(http, stack.url, None).send(verb, path, None, identities[who])
        assert answer.status >= 400, (verb, path, answer)
        assert answer.status < 500, (verb, path, answer)
        assert b"wanda" not in answer.body
