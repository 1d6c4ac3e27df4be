"""Watching: server-sent events over REST and a stream over gRPC, from the start or after a seq; and pages of events."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from e2e_runs import decide, path_of, refused, types, until
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode
from grpc.aio import AioRpcError
from wfe.api.v1 import workflow_service_pb2 as pb
from wfe_stack.rest import Rest
from wfe_stack.waiting import wait_for

WATCHED = """
name: e2e-watched
variables: {witness: {type: string}}
steps:
  - {id: first, http: {url: "${{ vars.witness }}/first"}}
  - {id: gate, approval: {title: "Go on?", approvers: {groups: [editors]}}}
  - {id: last, set: {x: 1}}
"""
#: Thousands of events, once the gate is open.
EVENTFUL = """
name: e2e-eventful-watch
variables: {items: {type: array}}
steps:
  - {id: gate, approval: {title: "Go on?", approvers: {groups: [editors]}}}
  - id: each
    foreach:
      items: "${{ vars.items }}"
      concurrency: 500
      steps:
        - {id: one, set: {text: "${{ item }}"}}
        - {id: two, set: {text: "${{ item }}"}}
        - {id: three, set: {text: "${{ item }}"}}
"""


@pytest.fixture
def sse(stack, keys):
    """Events as the bare stream of server-sent events has them."""

    async def stream(run: str, after: int | None = None) -> AsyncIterator[dict]:
        headers = {"authorization": f"Bearer {keys['sam']}", "accept": "text/event-stream"}
        params = {} if after is None else {"after": after}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{stack.url}{path_of(run, 'watch')}", params=params) as answer,
        ):
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            async for line in answer.content:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
                else:
                    assert line.strip() == b""

    return stream


async def streamed(stubs, run: str, after: int = 0) -> AsyncIterator[dict]:
    """Events as gRPC has them, in the words of REST."""
    async for event in stubs.workflows.WatchWorkflow(pb.WatchWorkflowRequest(id=run, after=after), timeout=30):
        yield MessageToDict(event, preserving_proto_field_name=True)


async def collected(events: AsyncIterator[dict], into: list[dict]) -> list[dict]:
    async for event in events:
        into.append(event)  # noqa: PERF401 - what has come is looked at meanwhile
    return into


async def test_events_come_as_they_happen_until_the_run_ends(sse, sam: Rest, ada: Rest, grpc_as, start, witness):
    witness["first"].hold()
    run = await start(WATCHED, witness=witness.url)
    seen: dict[str, list[dict]] = {"sse": [], "grpc": [], "sse later": [], "grpc later": []}
    async with asyncio.timeout(30):
        streams = [
            asyncio.create_task(collected(events, seen[name]))
            for name, events in {
                "sse": sse(run["id"]),
                "grpc": streamed(grpc_as("sam"), run["id"]),
                "sse later": sse(run["id"], after=2),
                "grpc later": streamed(grpc_as("sam"), run["id"], after=2),
            }.items()
        ]
        # What has happened comes at once, what happens comes then, and the streams stay open meanwhile.
        await wait_for(lambda: [len(events) for events in seen.values()] == [3, 3, 1, 1])
        witness["first"].release()
        await wait_for(lambda: all(events[-1]["type"] == "approval.requested" for events in seen.values()))
        assert not any(stream.done() for stream in streams)
        await decide(ada, await until(sam, run["id"], "waiting_approval"), "approve")
        await asyncio.gather(*streams)
    done = await sam.get(path_of(run["id"]))
    assert types(done)[-1] == "run.completed"
    assert [event["seq"] for event in seen["sse"]] == list(range(1, done["events_total"] + 1))
    assert seen["sse"] == done["events"]
    assert seen["sse later"] == done["events"][2:]
    assert [as_rest(event) for event in seen["grpc"]] == done["events"]
    assert [as_rest(event) for event in seen["grpc later"]] == done["events"][2:]


def as_rest(event: dict) -> dict:
    return {"reason": "", "data": {}, **event}


async def test_a_lost_stream_is_taken_up_again_without_gap_or_repeat(sse, sam: Rest, ada: Rest, start, witness):
    run = await start(WATCHED, witness=witness.url)
    waiting = await until(sam, run["id"], "waiting_approval")
    seen: list[dict] = []
    for count in (2, 1, 3):
        events = sse(run["id"], after=seen[-1]["seq"] if seen else 0)
        seen += [await anext(events) for _ in range(count)]
        await events.aclose()
    await decide(ada, waiting, "approve")
    await collected(sse(run["id"], after=seen[-1]["seq"]), seen)
    assert seen == (await sam.get(path_of(run["id"])))["events"]


async def test_a_reader_that_does_not_read_holds_up_nobody_and_misses_nothing(
    stack, keys, sse, sam: Rest, ada: Rest, start
):
    run = await start(EVENTFUL, items=[f"{n:04}" for n in range(1_000)])
    host, _, port = stack.url.rpartition("//")[2].rpartition(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (host, int(port)))
        request = (
            f"GET {path_of(run['id'], 'watch')} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {keys['sam']}\r\n\r\n"
        )
        await loop.sock_sendall(connection, request.encode())
        head = await loop.sock_recv(connection, 1_024)
        assert head.startswith(b"HTTP/1.1 200")

        # The run goes on, and whoever reads has everything.
        await decide(ada, await until(sam, run["id"], "waiting_approval"), "approve")
        done = await sam.wait_ended(run["id"])
        assert done["status"] == "completed", done["error"]
        prompt = await asyncio.wait_for(collected(sse(run["id"]), []), 30)
        assert [event["seq"] for event in prompt] == list(range(1, done["events_total"] + 1))

        # Far more than its buffer takes.
        text = head
        async with asyncio.timeout(60):
            while not text.endswith(b"0\r\n\r\n"):
                text += await loop.sock_recv(connection, 65_536)
    assert len(text) > 500_000
    chunks, body = text.partition(b"\r\n\r\n")[2], b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        body, chunks = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    seen = [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data:")]
    assert seen == prompt


async def test_a_watch_goes_on_over_an_end_that_was_not_the_last(sse, sam: Rest, ada: Rest, grpc_as, start, witness):
    """A run that failed and was retried is watched until its present end."""
    run = await start(WATCHED, witness=witness.url)
    await decide(ada, await until(sam, run["id"], "waiting_approval"), "reject")
    await until(sam, run["id"], "failed")
    again = await sam.post(path_of(run["id"], "retry"))
    seen: list[dict] = []
    stream = asyncio.create_task(collected(sse(run["id"]), seen))
    await wait_for(lambda: len(seen) == again["events_total"])
    assert not stream.done()
    await decide(ada, again, "approve")
    await asyncio.wait_for(stream, 30)
    done = await sam.get(path_of(run["id"]))
    assert (done["status"], seen) == ("completed", done["events"])
    assert len([event async for event in streamed(grpc_as("sam"), run["id"])]) == done["events_total"]
    # Of a run that has ended, what there is.
    assert [event async for event in sse(run["id"], after=done["events_total"])] == []


async def test_another_owners_run_cannot_be_watched(rest_as, grpc_as, start, witness):
    run = await start(WATCHED, witness=witness.url)
    for who, status, code in (("stranger", 404, StatusCode.NOT_FOUND), ("nobody", 401, StatusCode.UNAUTHENTICATED)):
        refusal = await refused(rest_as(who).get(path_of(run["id"], "watch")))
        assert refusal.status == status
        with pytest.raises(AioRpcError) as fault:
            [event async for event in streamed(grpc_as(who), run["id"])]
        assert fault.value.code() == code


async def test_events_after_a_seq_in_pages(sam: Rest, grpc_as, start, witness):
    run = await start(WATCHED, witness=witness.url)
    waiting = await until(sam, run["id"], "waiting_approval")
    path, everything = path_of(run["id"], "events"), waiting["events"]
    total = len(everything)
    assert (await sam.get(path)) == {"events": everything, "total": total, "limit": 50}
    assert (await sam.get(path, after=3, limit=2)) == {"events": everything[3:5], "total": total, "limit": 2}
    assert (await sam.get(path, after=total))["events"] == (await sam.get(path, after=2**31 - 1))["events"] == []
    assert (await sam.get(path, limit=999))["limit"] == 200
    for query in ({"after": -1}, {"limit": -1}, {"after": "x"}, {"after": 2**31}):
        assert (await refused(sam.get(path, **query))).status == 400
    page = await grpc_as("sam").workflows.ListEvents(pb.ListEventsRequest(id=run["id"], after=3, limit=2))
    assert [event.seq for event in page.events] == [4, 5]
