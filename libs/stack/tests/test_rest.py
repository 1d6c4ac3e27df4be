"""The REST client, against a small server that answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from wfe_stack.faults import StackFault
from wfe_stack.rest import Refused, Rest, Unreachable
from wfe_stack.samples import publish_samples

RUN = "0190163d-8694-739b-aea5-966c26f8ad91"


class Server:
    """Answers each request with the next of its answers, or through a function; keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], object]] = []
        self.answers: list[web.Response | Callable[[web.Request], object]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.requests.append(
            (request.method, request.path_qs, dict(request.headers), json.loads(text) if text else None)
        )
        answer = self.answers.pop(0)
        return await answer(request) if callable(answer) else answer

    def json(self, body: object, status: int = 200) -> None:
        self.answers.append(web.json_response(body, status=status))

    def close_connection(self) -> None:
        async def close(request: web.Request) -> web.Response:
            request.transport.abort()
            return web.Response()

        self.answers.append(close)

    def events(self, *events: dict[str, object], abort: bool = False) -> None:
        async def stream(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await answer.prepare(request)
            for event in events:
                await answer.write(f"data: {json.dumps(event)}\n\n".encode())
            if abort:
                request.transport.abort()
            return answer

        self.answers.append(stream)


@pytest.fixture
async def server():
    found = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    async with TestServer(app) as running:
        found.url = str(running.make_url("")).rstrip("/")
        yield found


@pytest.fixture
async def rest(server):
    async with Rest(server.url, "wfe_key", repeat_seconds=5) as found:
        yield found


async def test_a_call_carries_the_key_and_the_query(server, rest):
    server.json({"workflows": []})
    await rest.get("/api/v1/workflows", status=None, limit=5, label=["a=1", "b=2"], mine=True)
    method, path, headers, _ = server.requests[0]
    assert (method, path) == ("GET", "/api/v1/workflows?limit=5&label=a%3D1&label=b%3D2&mine=true")
    assert headers["Authorization"] == "Bearer wfe_key"


async def test_a_refusal_tells_reason_and_violations(server, rest):
    details = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "INPUT_INVALID", "metadata": {"n": "1"}},
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "field_violations": [{"field": "input.text", "description": "is required"}],
        },
    ]
    server.json({"code": 3, "message": "the request has faults", "details": details}, status=400)
    with pytest.raises(Refused) as caught:
        await rest.post("/api/v1/workflows")
    fault = caught.value
    assert (fault.status, fault.reason, fault.message) == (400, "INPUT_INVALID", "the request has faults")
    assert [(each.field, each.description) for each in fault.violations] == [("input.text", "is required")]


async def test_a_refusal_that_is_no_json_is_told_as_it_is(server, rest):
    server.answers.append(web.Response(status=403, text="go away"))
    with pytest.raises(Refused, match="go away"):
        await rest.get("/")


async def test_a_start_is_repeated_under_one_key_until_it_is_answered(server, rest):
    server.close_connection()
    server.json({"message": "starting"}, status=503)
    server.json({"message": "CANCELLED"}, status=499)
    server.json({"id": RUN, "status": "pending"}, status=201)
    assert (await rest.start({"template_id": "t"}))["id"] == RUN
    keys = {headers["idempotency-key"] for _, _, headers, _ in server.requests}
    assert len(server.requests) == 4
    assert len(keys) == 1


async def test_a_post_without_key_is_never_repeated(server, rest):
    server.json({"message": "starting"}, status=503)
    with pytest.raises(Refused):
        await rest.post("/api/v1/workflows/x/fork", {})
    assert len(server.requests) == 1


async def test_a_server_that_is_away_is_one_clear_line(unused_tcp_port):
    async with Rest(f"http://127.0.0.1:{unused_tcp_port}", None, repeat_seconds=0.2) as rest:
        with pytest.raises(Unreachable, match=rf"^http://127.0.0.1:{unused_tcp_port} does not answer: "):
            await rest.get("/readyz")


def event(seq: int, kind: str = "step.completed") -> dict[str, object]:
    return {"seq": seq, "type": kind, "at": "2026-01-01T00:00:00Z", "data": {}}


async def test_a_watch_goes_on_after_the_last_event_when_its_stream_breaks(server, rest):
    server.events(event(1), event(2), abort=True)
    server.events(event(3, "run.completed"))
    server.json({"id": RUN, "status": "completed", "events_total": 3})
    async with aclosing(rest.watch(RUN)) as events:
        assert [each["seq"] async for each in events] == [1, 2, 3]
    assert [path.rpartition("?")[2] for _, path, _, _ in server.requests[:2]] == ["after=0", "after=2"]


async def test_a_watch_of_a_missing_run_is_refused(server, rest):
    server.json({"message": "there is no such run"}, status=404)
    with pytest.raises(Refused, match="no such run"):
        async for _ in rest.watch(RUN):
            pass


async def test_an_error_inside_the_stream_is_taken_for_a_break(server, rest):
    server.events(event(1), {"code": 14, "message": "the scheduler stops"})
    server.events(event(2, "run.failed"))
    server.json({"id": RUN, "status": "failed", "events_total": 2})
    async with aclosing(rest.watch(RUN)) as events:
        assert [each["seq"] async for each in events] == [1, 2]


async def test_waiting_for_the_end_asks_again_until_it_has_come(server, rest):
    server.json({"id": RUN, "status": "running"})
    server.json({"id": RUN, "status": "completed"})
    assert (await rest.wait_ended(RUN))["status"] == "completed"


@pytest.fixture
def sample(tmp_path):
    (tmp_path / "hello.yaml").write_text("# greets\nname: hello\nsteps: []\n")
    return tmp_path


async def test_a_missing_sample_is_created_and_published(server, sample):
    server.json({"templates": []})
    server.json({"id": "t1", "name": "hello"}, status=201)
    server.json({"template_id": "t1", "version": 1})
    assert await publish_samples(server.url, "k", sample) == ["hello"]
    assert [(m, p) for m, p, _, _ in server.requests] == [
        ("GET", "/api/v1/templates?name=hello"),
        ("POST", "/api/v1/templates"),
        ("POST", "/api/v1/templates/t1/publish"),
    ]


async def test_a_changed_sample_gets_a_new_version_and_an_unchanged_one_none(server, sample):
    known = {"id": "t1", "name": "hello", "latest_version": 1}
    server.json({"templates": [known]})
    server.json({"source": "name: hello\n"})
    server.json({"id": "t1", "name": "hello"})
    server.json({"template_id": "t1", "version": 2})
    assert await publish_samples(server.url, "k", sample) == ["hello"]
    assert server.requests[2][0] == "PUT"
    server.json({"templates": [known]})
    server.json({"source": (sample / "hello.yaml").read_text()})
    assert await publish_samples(server.url, "k", sample) == []


async def test_a_refused_sample_is_named_with_its_first_fault(server, sample):
    server.json({"templates": []})
    server.json({"id": "t1", "name": "hello"}, status=201)
    violation = {"field": "steps", "description": "needs at least one step"}
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "field_violations": [violation]}
    server.json({"message": "the template has faults", "details": [detail]}, status=400)
    with pytest.raises(StackFault, match=r"hello\.yaml was refused: the template has faults: steps needs at least"):
        await publish_samples(server.url, "k", sample)
