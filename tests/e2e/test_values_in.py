"""Every way a value can come into a run: above 256 KB it is kept out of line and seen whole, above 16 MB refused."""

from __future__ import annotations

import base64
import itertools
import json
from uuid import UUID

import pytest
from e2e_runs import path_of, refused, step_of, until
from wfe_engine.kinds.waiting import callback_name
from wfe_scheduler.callbacks import Callbacks
from wfe_stack.rest import Rest
from wfe_stack.testing_model import calls, model_server, says
from wfe_store.sealing import read_keys

NAMES = itertools.count(1)
INLINE, MOST = 256 * 1024, 16 * 1024 * 1024


def sized(size: int) -> dict[str, str]:
    """An object of exactly so many bytes as JSON."""
    return {"text": "z" * (size - len('{"text":""}'))}


async def whole(caller: Rest, run: str, shown):
    """A value as the engine has it, read through its reference, which must be there."""
    assert set(shown) == {"$blob", "bytes"}
    data = b""
    while len(data) < shown["bytes"]:
        part = await caller.get(path_of(run, "blobs", shown["$blob"]), offset=len(data))
        data += base64.b64decode(part["data"])
    return json.loads(data)


@pytest.fixture
def named(publish):
    """Publishes a source under a name of its own."""

    async def make(source: str) -> str:
        return await publish(f"name: values-in-{next(NAMES)}\n{source}")

    return make


@pytest.fixture
def widest(store):
    """Bytes of the longest text in the rows of a run, parts of large values not counted."""

    async def measure(run: str) -> int:
        rows = await store.everything(run)
        signals = await store.rows("SELECT t::text FROM signals t WHERE run_id = %s", run)
        children = await store.rows("SELECT t::text FROM children t WHERE run_id = %s", run)
        return max(len(text) for (text,) in itertools.chain(*rows.values(), signals, children))

    return measure


IN = """
variables: {given: {}}
steps:
  - {id: told, wait_for: {signal: told}}
  - {id: answered, wait_for: {callback: other}}
  - {id: by_hand, wait_for: {signal: never}}
  - {id: sizes, set: {given: "${{ vars.given.text }}", told: "${{ steps.told.output.payload.text }}",
      answered: "${{ steps.answered.output.payload.text }}", by_hand: "${{ steps.by_hand.output.payload.text }}"}}
  - {id: work, call: {handler: spill, input: {secret: nothing, fail: "on purpose"}}, retry: {max_attempts: 1}}
"""


@pytest.mark.parametrize("size", [INLINE + 1, 3_000_000])
async def test_what_calls_bring_in_is_kept_out_of_line(sam: Rest, root: Rest, stack, store, named, widest, size):
    value = sized(size)
    body = {"template_id": await named(IN), "input": {"given": value}}
    run = (await sam.start(body, key=f"values-in-{size}"))["id"]
    assert (await sam.start(body, key=f"values-in-{size}"))["id"] == run
    assert (
        await refused(sam.start({**body, "input": {"given": sized(size + 1)}}, key=f"values-in-{size}"))
    ).status == 409
    path = path_of(run)
    await sam.post(path_of(run, "signals", "told"), {"payload": value})
    callbacks = Callbacks(read_keys(stack.settings.folder / "seal.key"), "")
    async with Rest(stack.url, None) as outside:
        # An early one: it is kept until its step comes.
        await outside.post(callbacks.url(UUID(run), callback_name("other", "")), {"payload": value})
    waiting = await until(sam, run, lambda found: any(s["path"] == "by_hand" for s in found["steps"]))
    no, by_hand = step_of(waiting, "by_hand")["no"], {"name": "phone", "payload": value}
    await root.post(f"{path}/steps/{no}/complete", {"output": by_hand, "reason": "told by phone"})
    failed = await until(sam, run, "failed")
    assert failed["error"]["code"] == "SPILLED", failed["error"]
    assert await widest(run) < 64 * 1024
    assert await whole(sam, run, failed["input"]) == {"given": value}
    assert (await whole(sam, run, step_of(failed, "told")["output"]))["payload"] == value
    assert (await whole(sam, run, step_of(failed, "answered")["output"]))["payload"] == value
    assert set((await whole(sam, run, step_of(failed, "sizes")["output"])).values()) == {value["text"]}
    edited = next(event["data"] for event in failed["events"] if event["type"] == "step.edited")
    assert await whole(sam, run, edited["after"]) == by_hand
    no = step_of(failed, "work")["no"]
    again = {"handler": "echo", "input": value}
    await root.post(f"{path}/steps/{no}/retry", {"input": again, "reason": "with more"})
    done = await sam.wait_ended(run)
    assert done["status"] == "completed", done["error"]
    assert await whole(sam, run, step_of(done, "work")["output"]) == value
    edited = [event["data"] for event in done["events"] if event["type"] == "step.edited"][-1]
    assert await whole(sam, run, edited["after"]) == again
    assert await widest(run) < 64 * 1024
    assert await store.folded(run) == await store.state(run)


async def test_a_start_takes_a_large_input_and_a_large_signal_at_once(sam: Rest, named):
    source = 'variables: {given: {}}\nsteps: [{id: told, wait_for: {signal: told}}]\noutput: "${{ vars.given.text }}"\n'
    body = {"template_id": await named(source), "input": {"given": sized(2_000_000)}}
    body["signal"] = {"name": "told", "payload": sized(1_500_000)}
    done = await sam.wait_ended((await sam.start(body))["id"])
    assert done["status"] == "completed", done["error"]
    assert (await whole(sam, done["id"], step_of(done, "told")["output"]))["payload"] == sized(1_500_000)
    assert len(await whole(sam, done["id"], done["output"])) == 2_000_000 - 11


async def test_above_16_mb_a_call_is_refused_and_the_run_goes_on(sam: Rest, root: Rest, stack, named):
    above = sized(MOST + 1)
    template = await named(IN)
    refusal = await refused(sam.start({"template_id": template, "input": {"given": above}}))
    assert (refusal.status, [v.field for v in refusal.violations]) == (400, ["input"])
    assert str(MOST) in refusal.message
    run = (await sam.start({"template_id": template, "input": {"given": sized(100)}}))["id"]
    callbacks = Callbacks(read_keys(stack.settings.folder / "seal.key"), "")
    refusals = [await refused(sam.post(path_of(run, "signals", "told"), {"payload": above}))]
    async with Rest(stack.url, None) as outside:
        url = callbacks.url(UUID(run), callback_name("other", ""))
        refusals.append(await refused(outside.post(url, {"payload": above})))
        unknown = await refused(outside.post("/api/v1/callbacks/AAAA", {"payload": sized(2_000_000)}))
        assert (unknown.status, unknown.reason) == (404, "CALLBACK_UNKNOWN")
    for what, field in (("complete", "output"), ("retry", "input")):
        refusals.append(await refused(root.post(path_of(run, "steps", "1", what), {field: above, "reason": "r"})))
    for refusal in refusals:
        assert refusal.status == 400
        assert str(MOST) in refusal.message
    for path, body in (
        (path_of(run, "signals", "told"), {"payload": "x" * (21 << 20)}),
        (path_of(run, "pause"), {"reason": "x" * (3 << 20)}),
    ):
        refusal = await refused(sam.post(path, body))
        assert (refusal.status, refusal.reason) == (413, "BODY_TOO_LARGE")
    reserved = await refused(sam.post(path_of(run, "signals", "told"), {"payload": {**sized(2_000_000), "$blob": "x"}}))
    assert (reserved.status, "$blob" in reserved.message) == (400, True)
    wrong = await refused(sam.start({"template_id": template, "input": {"given": sized(2_000_000), "gaven": 1}}))
    assert "did you mean given?" in wrong.message
    assert (await sam.get(path_of(run)))["status"] == "running"
    await sam.post(path_of(run, "signals", "told"), {"payload": sized(MOST)})
    waiting = await until(sam, run, lambda found: any(s["path"] == "answered" for s in found["steps"]))
    assert step_of(waiting, "told")["output"]["bytes"] > MOST


CHILD = """
variables: {given: {}}
steps: [{id: made, call: {handler: echo, input: "${{ vars.given }}"}}]
output: "${{ steps.made.output }}"
"""
MADE = """
variables: {size: {type: integer}, site: {}, docs: {}, model: {}}
steps:
  - {id: made, call: {handler: work, input: {seconds: 0, pieces: 1, bytes: "${{ vars.size }}"}}}
  - {id: child, workflow: {template: the-child, input: {given: {text: "${{ steps.made.output.text }}"}}}}
  - id: site
    http: {method: POST, url: "${{ vars.site }}/x", json: {text: "${{ steps.child.output.text }}"}, max_bytes: 16777216}
  - id: docs
    mcp: {server: {url: "${{ vars.docs }}"}, tool: search, arguments: {query: "${{ steps.site.output.body.got.text }}"}}
  - {id: told, emit: {name: large.thing, data: {text: "${{ steps.docs.output.text }}"}}}
  - id: each
    foreach:
      items: [{text: "${{ steps.made.output.text }}"}, {text: "${{ steps.made.output.text }}"}]
      steps: [{id: one, set: {text: "${{ item.text }}"}}]
  - id: twice
    loop:
      while: "${{ index < 2 }}"
      max: 2
      steps:
        - {id: before, set: {last: "${{ steps.twice.output }}"}}
        - {id: round, set: {n: "${{ index }}", text: "${{ steps.made.output.text }}"}}
  - id: agent
    agent:
      endpoint: "${{ vars.model }}"
      model: small
      prompt: Work.
      tools: [{call: {handler: work, description: Works., parameters: {type: object}}}]
  - id: review
    approval: {title: "Go on?", approvers: {groups: [editors]}, payload: {text: "${{ steps.made.output.text }}"}}
output: {each: "${{ steps.each.output }}", twice: "${{ steps.twice.output }}"}
"""


@pytest.mark.parametrize("size", [INLINE + 1, 1_500_000])
async def test_what_steps_bring_in_is_kept_out_of_line(
    sam: Rest, ada: Rest, publish, named, witness, docs_url, widest, store, size
):
    child = f"values-in-child-{next(NAMES)}"
    await publish(f"name: {child}\n{CHILD}")
    template = await named(MADE.replace("the-child", child))
    text = "x" * size
    wanted = calls(("work", {"seconds": 0, "pieces": 1, "bytes": size}))
    async with model_server(wanted, says("Done.")) as model:
        given = {"size": size, "site": witness.url, "docs": docs_url, "model": model.url}
        run = (await sam.start({"template_id": template, "input": given}))["id"]
        waiting = await until(sam, run, lambda found: found["status"] in ("waiting_approval", "failed"), seconds=90)
        assert waiting["status"] == "waiting_approval", waiting["error"]
        assert text in json.dumps(model.requests[-1]["messages"])
    gate = waiting["approvals"][0]
    assert await whole(ada, run, gate["payload"]) == {"text": text}
    await ada.post(path_of(run, "approvals", gate["id"], "approve"))
    done = await sam.wait_ended(run)
    assert done["status"] == "completed", done["error"]
    assert await whole(sam, run, step_of(done, "child")["output"]) == {"text": text}
    assert (await whole(sam, run, step_of(done, "site")["output"]))["body"]["got"] == {"text": text}
    assert (await whole(sam, run, step_of(done, "docs")["output"]))["text"] == f"found: {text}"
    (emitted,) = [event["data"] for event in done["events"] if event["type"] == "emitted"]
    assert await whole(sam, run, emitted["data"]) == {"text": f"found: {text}"}
    assert await whole(sam, run, done["output"]) == {
        "each": [{"text": text}] * 2,
        "twice": {"n": 1, "text": text},
    }
    assert await widest(run) < 64 * 1024
    (inner,) = await store.rows("SELECT id::text FROM runs WHERE parent_run = %s", run)
    assert await widest(inner[0]) < 64 * 1024
    assert await store.folded(run) == await store.state(run)
