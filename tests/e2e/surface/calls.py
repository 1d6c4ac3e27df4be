"""What is needed to make one good call of every method of the public API; the calls are in `good_calls`.

Everything here follows the descriptors. A method without a row in `SAMPLES` fails the tests, so a new one is
covered from its first day.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import importlib
import json
import pkgutil
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import wfe.api.v1
from good_calls import OWNED, SAMPLES, Fields
from google.protobuf import descriptor_pool, json_format, message_factory
from wfe_gateway import routes
from wfe_gateway.api import Binding, bindings
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for
from yarl import URL

SOURCE = """
name: {name}
variables:
  text: {{type: string, default: a}}
  data: {{type: object, default: {{}}}}
steps:
  - {{id: review, approval: {{title: "Go on?", approvers: {{roles: [approver]}}}}}}
  - {{id: work, call: {{handler: echo, input: {{text: "${{{{ vars.text }}}}"}}}}}}
"""
# Every module, so that the pool of descriptors has the messages of every call.
for _each in pkgutil.iter_modules(wfe.api.v1.__path__):
    importlib.import_module(f"wfe.api.v1.{_each.name}")
CALLS: dict[str, Binding] = {binding.method.name: binding for binding in bindings()}
#: A value that is too large for an answer; then a signal and a callback that it waits for, and work.
MENDED = """
name: {name}
steps:
  - {{id: large, call: {{handler: work, input: {{seconds: 0, pieces: 1, bytes: 300000}}}}}}
  - {{id: go, wait_for: {{signal: go}}}}
  - {{id: told, wait_for: {{callback: told, heartbeat: 1h}}}}
"""
#: Work that fails.
FAILING = """
name: {name}
steps:
  - {{id: work, call: {{handler: flaky, input: {{failures: 9}}}}, retry: {{max_attempts: 1}}}}
"""
#: A gate that two must approve and that can be edited, extended, and decided by links.
REVIEWED = """
name: {name}
steps:
  - id: review
    approval:
      title: Go on?
      payload: {{n: 1}}
      policy: [{{from: {{role: approver}}, count: 2}}]
      form: {{editable: [/n], schema: {{type: object}}}}
      expires: {{after: 24h, then: reject}}
      risk: low
"""
PUBLIC = frozenset(
    {"GetReadiness", "AnswerCallback", "GetLink", "DecideByLink", "ShowLink", "AnswerLink", "ReceiveHook"}
)
#: Calls that another system makes, with a body of its own and a signature over it: all that is wrong with them is 401.
SIGNED = frozenset({"ReceiveHook"})
#: Calls whose body is the form of a page. What is wrong with forms and what links refuse is in the tests of pages.
FORMS = frozenset({"AnswerLink"})


@dataclass(frozen=True, slots=True)
class Things:
    """What the samples name, by the word after the $."""

    ids: dict[str, str]

    def fields(self, method: str) -> Fields:
        """The request of a method's sample."""
        return {name: self._filled(value) for name, value in SAMPLES[method].fields.items()}

    def headers(self, method: str) -> dict[str, str]:
        """What the sample needs beside its credentials: of a signed call the signature, as GitHub makes it."""
        if method in FORMS:
            return {"content-type": "application/x-www-form-urlencoded"}
        if method not in SIGNED:
            return {}
        body = base64.b64decode(self.fields(method)["body"]["data"])
        digest = hmac.new(self.ids["door_secret"].encode(), body, hashlib.sha256).hexdigest()
        return {"x-hub-signature-256": f"sha256={digest}"}

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(each) for each in value]
        if isinstance(value, dict):
            return {name: self._filled(each) for name, each in value.items()}
        if not (isinstance(value, str) and value.startswith("$")):
            return value
        fresh = f"n{uuid.uuid4().hex}"
        made = {"new_name": fresh, "new_subject": f"issuer|{fresh}", "new_source": SOURCE.format(name=fresh)}
        return made.get(value[1:]) or self.ids[value[1:]]


async def _started(rest: Rest, source: str) -> str:
    """A run of a template of its own."""
    template = await rest.post("/api/v1/templates", {"source": source.format(name=f"t{uuid.uuid4().hex}")})
    await rest.post(f"/api/v1/templates/{template['id']}/publish")
    return (await rest.start({"template_id": template["id"]}))["id"]


async def _settled(rest: Rest, run: str) -> Any:
    """A run once it waits for its signal, or has failed."""
    found = await rest.get(f"/api/v1/workflows/{run}")
    waits = any(step["path"] == "go" and step["status"] == "waiting" for step in found["steps"])
    return found if waits or found["status"] == "failed" else None


async def make_things(rest: Rest, token: Callable[[str, str], str]) -> Things:
    """One thing of each kind, and a run that waits at its gate with a snapshot.

    Args:
        token: Makes the token of a callback from its run and name.
    """
    name = f"t{uuid.uuid4().hex}"
    source = SOURCE.format(name=name)
    template = await rest.post("/api/v1/templates", {"source": source})
    await rest.post(f"/api/v1/templates/{template['id']}/publish")
    run = await rest.start({"template_id": template["id"]})
    path = f"/api/v1/workflows/{run['id']}"
    snapshot = await rest.post(f"{path}/snapshots", {"name": "first"})
    gate = await wait_for(lambda: _gate(rest, run["id"]), what="a gate")
    principal = await rest.post("/api/v1/principals", {"name": name, "roles": ["viewer"]})
    group = await rest.post("/api/v1/groups", {"name": name})
    key = await rest.post("/api/v1/keys", {"principal_id": principal["id"], "name": name})
    mended, failed = await _started(rest, MENDED), await _started(rest, FAILING)
    waiting = await wait_for(lambda: _settled(rest, mended), what="a run that waits")
    await wait_for(lambda: _settled(rest, failed), what="a failed run")
    # Whoever stands in for the one who started a run may not decide its gates, so these are two.
    colleague, deputy = f"c{uuid.uuid4().hex}", f"d{uuid.uuid4().hex}"
    for approver in (colleague, deputy):
        await rest.post("/api/v1/principals", {"name": approver, "roles": ["approver"]})
    reviewed = await _started(rest, REVIEWED)
    review = await wait_for(lambda: _gate(rest, reviewed), what="a gate with a policy")
    link = await rest.post(f"/api/v1/approvals/{review['id']}/links", {"to": colleague})
    now = dt.datetime.now(dt.UTC)
    soon, later = [(now + dt.timedelta(days=days)).isoformat().replace("+00:00", "Z") for days in (1, 30)]
    delegation = await rest.post("/api/v1/delegations", {"delegate": deputy, "ends_at": later})
    webhook = await rest.post("/api/v1/webhooks", {"url": "https://127.0.0.1:9", "event_types": ["webhook.ping"]})
    delivery = await rest.post(f"/api/v1/webhooks/{webhook['id']}/ping")
    hook = await rest.post("/api/v1/hooks", {"template_id": template["id"], "scheme": "github"})
    secret = f"S{name}"
    await rest.put(f"/api/v1/secrets/{secret}", {"value": "at first"})
    terms = {"name": name, "template_id": template["id"], "cron": "0 0 1 1 *"}
    schedule = await rest.post("/api/v1/schedules", terms)
    return Things(
        {
            "schedule": schedule["id"],
            "schedule_name": name,
            "mended": mended,
            "failed": failed,
            "blob": waiting["steps"][0]["output"]["$blob"],
            "token": token(mended, "told"),
            "secret": secret,
            "colleague": colleague,
            "review": review["id"],
            "review_digest": review["digest"],
            "link": link["path"].rpartition("/")[2],
            "delegation": delegation["id"],
            "soon": soon,
            "later": later,
            "webhook": webhook["id"],
            "delivery": delivery["id"],
            "hook": hook["id"],
            "door": hook["id"],
            "door_secret": hook["secret"],
            "template": template["id"],
            "template_name": name,
            "source": source,
            "run": run["id"],
            "snapshot": snapshot["id"],
            "approval": gate["id"],
            "digest": gate["digest"],
            "principal": principal["id"],
            "group": group["id"],
            "key": key["id"],
        }
    )


async def _gate(rest: Rest, run: str) -> Any:
    return next(iter((await rest.get("/api/v1/approvals", workflow_id=run))["approvals"]), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over REST."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def refusal(self, *statuses: int) -> str:
        """What is wrong with this answer as a refusal; empty when it is one as it should be.

        Args:
            statuses: Those it may have; any from 400 to 499 when none are named.
        """
        if self.status not in statuses if statuses else not 400 <= self.status < 500:
            return f"answers {self.status} {self.body[:300]!r}"
        if self.headers.get("content-type", "").partition(";")[0] != "application/json":
            return f"answers {self.headers.get('content-type')}: {self.body[:300]!r}"
        return status_fault(self.json())


def status_fault(status: Any) -> str:
    """What is wrong with a google.rpc.Status as JSON; empty when nothing is."""
    if not (isinstance(status, dict) and isinstance(status.get("code"), int) and status.get("message")):
        return f"no google.rpc.Status: {status!r}"
    infos = [each for each in status.get("details", ()) if each["@type"].endswith("/google.rpc.ErrorInfo")]
    if len(infos) != 1 or not re.fullmatch(r"[A-Z][A-Z0-9_]+", infos[0].get("reason", "")):
        return f"not one ErrorInfo with a reason: {status!r}"
    told = json.dumps(status)
    inside = [word for word in ("Traceback", "psycopg", "127.0.0.1", 'File \\"') if word in told]
    return f"tells of the inside ({inside[0]}): {status!r}" if inside else ""


@dataclass(frozen=True, slots=True)
class Api:
    """The REST API, byte by byte, as one caller."""

    http: aiohttp.ClientSession
    url: str
    key: str | None

    async def send(
        self,
        verb: str,
        target: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """A request with its target as it is given."""
        given = {"authorization": f"Bearer {self.key}"} if self.key else {}
        if body is not None:
            given["content-type"] = "application/json"
        given |= headers or {}
        async with self.http.request(
            verb,
            URL(self.url + target, encoded=True),
            data=body,
            headers={k: v for k, v in given.items() if v},
            skip_auto_headers=("content-type",),
            allow_redirects=False,
        ) as answer:
            stream = answer.headers.get("content-type", "").startswith("text/event-stream")
            text = b"" if stream and answer.status == 200 else await answer.read()
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, text)

    async def call(self, method: str, fields: Fields, headers: dict[str, str] | None = None) -> Answer:
        """A call of a method with these fields, wherever REST has them."""
        return await self.send(*request_of(method, fields), headers)


def part_of(method: str) -> str:
    """The service process that has a method."""
    return routes.part_of(CALLS[method].service)


def request_of(method: str, fields: Fields) -> tuple[str, str, bytes | None]:
    """Verb, target and body of a call."""
    call = CALLS[method]
    rest = {name: value for name, value in fields.items() if name not in call.path_fields}
    target = filled(call.path, fields)
    if method in SIGNED | FORMS:
        return call.verb, target, base64.b64decode(rest["body"]["data"])
    if call.body:
        return call.verb, target, json.dumps(rest).encode()
    return call.verb, target + query_of(rest), None


def filled(path: str, fields: Fields) -> str:
    """A path with its fields."""
    return re.sub(r"\{(\w+)\}", lambda found: quote(str(fields[found[1]]), safe=""), path)


def query_of(fields: Fields) -> str:
    """Fields as a query string, with its question mark."""
    pairs = [
        (name, str(each).lower() if isinstance(each, bool) else each)
        for name, value in fields.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    return f"?{urlencode(pairs)}" if pairs else ""


def request_type(method: str) -> Any:
    """The class of a method's request."""
    name = CALLS[method].method.input_type.lstrip(".")
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def response_type(method: str) -> Any:
    """The class of a method's answer."""
    name = CALLS[method].method.output_type.lstrip(".")
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def message_of(method: str, fields: Fields) -> Any:
    """The request of a call as a message."""
    return json_format.ParseDict(fields, request_type(method)())


def id_fields(method: str) -> Iterator[str]:
    """Names of the fields of a sample that name a thing of the owner."""
    for name, value in SAMPLES[method].fields.items():
        if value in OWNED:
            yield name
