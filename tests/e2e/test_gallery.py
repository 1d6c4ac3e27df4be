"""The gallery on the real engine: each template with real handlers, HTTP calls, a model, an MCP server, and people.

Templates are taken as they stand, but for the names of hosts, which lead to servers of the test, and spans of time that
nobody would wait for.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from e2e_runs import path_of, statuses, step_of, types, until
from e2e_stage import Fault, Reply, Stage
from wfe_stack.rest import Rest
from wfe_stack.seed import SeedPrincipal, seed
from wfe_stack.testing_model import model_server, says

GALLERY = Path(__file__).parents[2] / "examples" / "gallery"
#: An owner of its own: somebody who does everything, and a decider of every group that gates of the gallery name.
PEOPLE = (
    SeedPrincipal("gus", roles=("operator", "author", "viewer", "admin")),
    SeedPrincipal("gil", roles=("approver", "viewer"), groups=("editors", "finance", "oncall", "maintainers")),
)


class Actors:
    """Who acts on a run from outside."""

    def __init__(self, gus: Rest, gil: Rest) -> None:
        self.gus, self.gil = gus, gil

    async def decide(self, run: str, what: str, **body: Any) -> None:
        """Decide the gate that is open next."""
        found = await until(self.gus, run, "waiting_approval")
        gate = next(gate["id"] for gate in found["approvals"] if gate["status"] == "open")
        await self.gil.post(path_of(run, "approvals", gate, what), body)

    async def signal(self, run: str, name: str) -> None:
        """Send a signal once a step waits."""
        await until(self.gus, run, lambda found: any(step["status"] == "waiting" for step in found["steps"]))
        await self.gus.post(path_of(run, "signals", name), {"payload": {"by": "mail"}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One run of a template.

    Attributes:
        given: Input.
        script: See `Stage`.
        spans: Texts of the template to be replaced: spans of time.
        acts: What people do meanwhile.
        output: What must come of it; or the code of its error.
        steps: Statuses some of its steps must have, by path.
        events: Types of events it must have.
    """

    given: Callable[[], dict[str, Any]]
    script: dict[str, Any]
    output: Any = None
    error: str = ""
    spans: dict[str, str] = field(default_factory=dict)
    acts: Callable[[Actors, str], Awaitable[None]] | None = None
    steps: dict[str, str] = field(default_factory=dict)
    events: tuple[str, ...] = ()


def in_a_moment() -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)).isoformat()


PLAYS: dict[str, Play] = {
    "document-pipeline": Play(
        given=lambda: {"document": "https://example.com/a.pdf", "at_once": 3},
        script={
            "POST /handlers/split_pages": {"pages": [f"p{n}" for n in range(10)]},
            "POST /handlers/read_page": lambda asked: (
                Fault("PAGE_UNREADABLE") if asked["input"]["page"] == "p3" else {"text": "abcd"}
            ),
            "POST /handlers/embed": {"vector": [1, 2]},
            "POST /handlers/index_pages": {"indexed": True},
        },
        output={"pages": 10, "indexed": 9, "characters": 36},
        steps={"pages": "completed", "index": "completed"},
    ),
    "enrich-leads": Play(
        given=lambda: {
            "leads": [f"{name}@example.com" for name in ("ada", "bob", "ada", "eve", "tim")],
            "key": "canary-77-k3y",
        },
        spans={"initial: 2s": "initial: 50ms"},
        script={
            "GET /people/v1/lookup": lambda asked: {
                "bob@example.com": Reply(404, {}),
                "eve@example.com": Reply(403, {"error": "no"}),
            }.get(asked["email"], {"company": "Initech"}),
            "POST /handlers/store_leads": {},
        },
        output={"leads": 4, "enriched": 2},
        steps={"enrich": "completed", "store": "completed"},
    ),
    "export-and-poll": Play(
        given=lambda: {"dataset": "orders", "token": "canary-77-t0ken"},
        spans={"index < 5 ? 10 : 60": "index < 5 ? 0 : 1"},
        script={
            "POST /export/jobs": Reply(202, {"id": "j1"}),
            "GET /export/jobs/j1": [Reply(503), {"state": "running"}, {"state": "done", "file": "https://x.example/f"}],
        },
        output={"file": "https://x.example/f"},
        steps={"poll": "completed", "broken": "skipped"},
    ),
    "incident-response": Play(
        given=lambda: {"service": "checkout", "severity": "high"},
        spans={"wait: {for: 2m}": "wait: {for: 100ms}"},
        script={
            "POST /handlers/read_logs": Fault("LOGS_DOWN"),
            "POST /handlers/read_metrics": [{"healthy": False}, {"healthy": True}],
            "POST /handlers/read_deploys": {"last": "v42"},
            "POST /handlers/propose_mitigation": {
                "action": "Roll back v42",
                "why": "Errors began with it.",
                "risk": "low",
            },
            "POST /handlers/mitigate": {},
        },
        acts=lambda actors, run: actors.decide(run, "approve"),
        output={"outcome": "mitigated"},
        steps={"facts": "completed", "facts/logs/read_logs": "failed", "respond/finally/told": "completed"},
        events=("snapshot.created", "approval.approved", "emitted"),
    ),
    "nightly-report": Play(
        given=dict,
        spans={"initial: 30s": "initial: 50ms"},
        script={
            "GET /figures/sales": {"total": 5},
            "GET /figures/support": Reply(500, {"error": "down"}),
            "POST /handlers/write_report": {"text": "Fine."},
            "POST /handlers/send_mail": {"sent": True},
        },
        output={"missing": ["support"]},
        steps={"mail": "completed", "told": "completed"},
        events=("emitted",),
    ),
    "onboarding": Play(
        given=lambda: {"person": "Ada", "email": "ada@example.com", "starts": in_a_moment()},
        spans={"after: 7d": "after: 2s", "wait: {for: 14d}": "wait: {for: 100ms}"},
        script={
            "POST /handlers/send_contract": {},
            "POST /handlers/send_mail": {},
            "POST /handlers/open_account": lambda asked: {"opened": asked["input"]["system"]},
        },
        acts=lambda actors, run: actors.signal(run, "contract_signed"),
        output={"signed": True, "accounts": [{"opened": "mail"}, {"opened": "chat"}, {"opened": "code"}]},
        steps={"first_day": "completed", "ask": "completed"},
        events=("signal.received", "signal.taken"),
    ),
    "refund-with-undo": Play(
        given=lambda: {"order": "A7", "amount": 250},
        spans={"initial: 10s": "initial: 50ms"},
        script={
            "POST /handlers/reserve": {"id": "r1"},
            "POST /handlers/transfer": [Fault("BANK_DOWN", retryable=True), Fault("ACCOUNT_CLOSED")],
            "POST /handlers/release": {},
            "POST /handlers/send_letter": {},
        },
        acts=lambda actors, run: actors.decide(run, "approve", comment="fine"),
        output={"paid": False, "by": "letter"},
        steps={"pay/body/transfer": "failed", "pay/catch/release": "completed", "pay/finally/told": "completed"},
    ),
    "research-brief": Play(
        given=lambda: {"question": "How do leases expire?", "token": "canary-77-t0ken"},
        script={
            "POST /handlers/search_web": Fault("WEB_DOWN"),
            "POST /handlers/search_papers": {"found": "b"},
            "POST /handlers/write_brief": {"text": "They do."},
            "POST /blog/api/briefs": Reply(201, {}, {"Location": "https://blog.example/briefs/7"}),
        },
        acts=lambda actors, run: actors.decide(run, "approve"),
        output={"url": "https://blog.example/briefs/7", "sources": 2},
        steps={"research/internal/search_docs": "completed", "publish": "completed", "enough": "skipped"},
    ),
    "review-and-fix": Play(
        given=lambda: {"repo": "engine", "pull": 7},
        script={
            "POST /handlers/run_tests": [{"problems": ["test_a fails"]}, {"problems": []}],
            "POST /handlers/run_lint": {"problems": []},
            "POST /handlers/review_code": {"problems": []},
            "POST /handlers/mend_code": {},
            "POST /handlers/merge": {},
        },
        acts=lambda actors, run: actors.decide(run, "approve"),
        output={"green": True, "merged": True},
        steps={"comment": "skipped", "merged": "completed"},
    ),
    "support-triage": Play(
        given=lambda: {"ticket": "I was charged twice.", "customer": "ada@example.com"},
        script={"POST /handlers/refund": {}, "POST /handlers/send_mail": {}},
        acts=lambda actors, run: actors.decide(run, "approve"),
        output={"label": "billing", "escalated": False},
        steps={"classify/model": "completed", "route/2/refund": "completed", "reply": "completed"},
    ),
}


@pytest.fixture(scope="module")
async def people(stack) -> AsyncIterator[tuple[Rest, Rest]]:
    """Who starts the gallery's runs, and who may decide every gate of them."""
    keys = await seed(stack.database_url, stack.settings.folder / "gallery.json", owner="gallery", people=PEOPLE)
    async with Rest(stack.url, keys["gus"]) as gus, Rest(stack.url, keys["gil"]) as gil:
        yield gus, gil


def test_every_template_of_the_gallery_is_played():
    assert PLAYS.keys() == {path.stem for path in GALLERY.glob("*.yaml")}


@pytest.mark.parametrize("name", PLAYS)
async def test_a_template_of_the_gallery(name: str, stage: Stage, people, publish, docs_url):
    gus, gil = people
    play = PLAYS[name]
    stage.play(play.script)
    await gus.put("/api/v1/secrets/DOCS_TOKEN", {"value": "canary-77-docs"})
    await gus.put("/api/v1/secrets/MODEL_KEY", {"value": "canary-77-model"})
    async with model_server(says('{"label": "billing"}'), key="canary-77-model") as model:
        source = (GALLERY / f"{name}.yaml").read_text()
        hosts = {"https://docs.example/mcp": docs_url, "https://models.example/v1": model.url}
        hosts |= {
            f"https://{host}.example": f"{stage.url}/{host}"
            for host in ("people", "export", "figures", "blog", "pager")
        }
        for old in play.spans:
            assert old in source, f"{name} has no {old!r} any more"
        for old, new in (hosts | play.spans).items():
            source = source.replace(old, new)
        run = await gus.start({"template_id": await publish(source, gus), "input": play.given()})
        if play.acts is not None:
            await play.acts(Actors(gus, gil), run["id"])
        done = await until(gus, run["id"], lambda found: found["status"] in ("completed", "failed"))
    assert (done["status"], done.get("output")) == ("completed", play.output), done.get("error")
    found = statuses(done)
    assert {path: found[path] for path in play.steps} == play.steps
    assert set(play.events) <= set(types(done))
    assert "canary-77" not in str(done), "neither keys nor tokens are shown"
    if name == "export-and-poll":
        assert step_of(done, "poll/look")["attempts"] == 1
        assert len([key for key, _ in stage.heard if key.startswith("GET")]) == 3
    if name == "review-and-fix":
        assert stage.inputs("mend_code") == [{"repo": "engine", "pull": 7, "problems": ["test_a fails"]}]
    if name == "research-brief":
        assert any("found: How do leases expire?" in str(note) for note in stage.inputs("write_brief")[0]["notes"])
