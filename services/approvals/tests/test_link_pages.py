"""Links as pages: what is said is text, what can be done is a form, and a refusal is a page too."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from wfe.api.v1 import approval_service_pb2 as pb
from wfe_servicekit.testing import refused

from .link_calls import everything, issue, sql

CODE = grpc.StatusCode
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;\u202egnp.exe\x1b[31m"
BROWSER = (("accept", "text/html,application/xhtml+xml,*/*;q=0.8"), ("x-envoy-original-path", "/api/v1/links/x"))


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def names(self, tag: str) -> list[str | None]:
        return [attributes.get("value") or attributes.get("name") for name, attributes in self.tags if name == tag]

    @property
    def buttons(self) -> list[str | None]:
        return self.names("button")


async def shown(links: Any, token: str, metadata: Any = ()) -> Page:
    answer = await links.ShowLink(pb.ShowLinkRequest(token=token), metadata=metadata)
    assert answer.content_type == "text/html; charset=utf-8"
    return Page(answer.data.decode())


def form(token: str, **fields: str) -> pb.AnswerLinkRequest:
    data = urlencode(fields).encode()
    return pb.AnswerLinkRequest(token=token, body=HttpBody(content_type="application/x-www-form-urlencoded", data=data))


async def test_a_page_has_what_one_decides_by(world: Any, links: Any) -> None:
    policy = {
        "blocks": [{"groups": ["editors"], "count": 2}, {"roles": ["admin"]}],
        "reject": {"outcomes": ["fail", "branch:manual"], "options": ["dear", "late"], "reason": "required"},
        "revise": {"max_rounds": 2},
    }
    payload = '{"amount": 5, "n": 9007199254740993}'
    gate = await world.gate(await world.run(), policy=policy, risk="low", payload=payload)
    page = await shown(links, await issue(world, gate))
    for part in (
        "Publish?", '"amount": 5', "9007199254740993", "0 of 2 from group editors", "0 of 1 from role admin",
        "You decide as ada", "whoever started the run",
    ):  # fmt: skip
        assert part in page.text, part
    assert page.buttons == ["approve", "reject", "revise"]
    assert page.names("option") == ["", "dear", "late", "fail", "branch:manual"] or page.names("option") == [
        None, "dear", "late", "fail", "branch:manual",
    ]  # fmt: skip
    assert [
        tag for tag, attributes in page.tags if "src" in attributes or "href" in attributes or tag == "script"
    ] == []


async def test_whatever_is_said_is_text(world: Any, links: Any) -> None:
    payload = json.dumps({HOSTILE: HOSTILE})
    gate = await world.gate(await world.run(), risk="low", payload=payload)
    token = await issue(world, gate)
    await sql(world, "UPDATE gates SET title = %s, body = %s, path = %s", *[HOSTILE.replace("\0", "")] * 3)
    await sql(world, "UPDATE principals SET name = %s WHERE name = 'ada'", HOSTILE)
    answer = (await links.ShowLink(pb.ShowLinkRequest(token=token))).data.decode()
    page = Page(answer)
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "div", "pre", "dl", "dt", "dd", "form", "p", "b",
        "label", "textarea", "button",
    }  # fmt: skip
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count("</pre><script>alert(1)</script>") >= 4
    assert "\u202e" not in answer, "what turns text around is spelt out"
    assert "\x1b" not in answer
    assert "\\u202e" in answer


async def test_a_thousand_pages_change_nothing_and_the_form_decides_once(world: Any, links: Any) -> None:
    gate = await world.gate(await world.run(), risk="low")
    token = await issue(world, gate)
    before = await everything(world)
    for _ in range(1000):
        await links.ShowLink(pb.ShowLinkRequest(token=token))
    assert await everything(world) == before
    done = await links.AnswerLink(form(token, decision="approve", comment="fine\r\nthanks"))
    assert "approved" in Page(done.data.decode()).text
    seen = await world.approvals.GetApproval(
        pb.GetApprovalRequest(approval_id=str(gate)), metadata=await world.as_("bob")
    )
    assert (seen.status, seen.comment, seen.decided_via) == ("approved", "fine\nthanks", "link")
    again = await links.AnswerLink(form(token, decision="approve"))
    assert "approved" in Page(again.data.decode()).text, "the same again, as when a page is loaded anew"
    fault = await refused(links.AnswerLink(form(token, decision="reject")))
    assert fault.info.reason == "LINK_USED"


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ("UPDATE gate_links SET expires_at = clock_timestamp()", "409", "has expired"),
        ("UPDATE gates SET digest = 'd2', version = version + 1", "409", "out of date"),
        ("UPDATE gates SET status = 'withdrawn'", "409", "decided or withdrawn"),
        ("UPDATE principals SET disabled_at = clock_timestamp() WHERE name = 'ada'", "404", "no such link"),
    ],
)
async def test_a_browser_gets_refusals_as_pages_and_programs_as_errors(
    world: Any, links: Any, change: str, status: str, says: str
) -> None:
    token = await issue(world, await world.gate(await world.run(), risk="low"))
    await sql(world, change)
    for call in (
        links.ShowLink(pb.ShowLinkRequest(token=token), metadata=BROWSER),
        links.AnswerLink(form(token, decision="approve"), metadata=BROWSER),
    ):
        page = Page((await call).data.decode())
        assert says in page.text
        assert page.buttons == []
        headers = dict(await call.initial_metadata())
        assert headers["x-http-status"] == status
        assert "default-src 'none'" in headers["content-security-policy"]
    assert (await refused(links.ShowLink(pb.ShowLinkRequest(token=token)))).code in (
        CODE.FAILED_PRECONDITION, CODE.NOT_FOUND,
    )  # fmt: skip


async def test_what_a_link_cannot_do_has_no_button(world: Any, links: Any) -> None:
    medium = await shown(links, await issue(world, await world.gate(await world.run(), risk="medium")))
    assert (medium.buttons, "sign in" in medium.text) == ([], True)
    schema = {"form": {"schema": {"type": "object", "required": ["ticket"]}}}
    policy = {"blocks": [{}], **schema}
    asks = await shown(links, await issue(world, await world.gate(await world.run(), risk="low", policy=policy)))
    assert (asks.buttons, "a form must be filled in" in asks.text) == (["reject"], True)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("application/json", b'{"decision": "approve"}'),
        ("application/x-www-form-urlencoded", b"decision=approve&decision=reject"),
        ("application/x-www-form-urlencoded", b"decision=approve&form=%7B%7D"),
        ("application/x-www-form-urlencoded", b"decision=approve&comment=%ff"),
        ("application/x-www-form-urlencoded", b"decision"),
        ("application/x-www-form-urlencoded", b"\xff=1"),
        ("application/x-www-form-urlencoded", b"decision=maybe"),
        ("application/x-www-form-urlencoded", b"comment=" + b"x" * 70_000),
        ("application/x-www-form-urlencoded", b""),
    ],
)
async def test_a_form_that_is_none_decides_nothing(world: Any, links: Any, kind: str, data: bytes) -> None:
    gate = await world.gate(await world.run(), risk="low")
    token = await issue(world, gate)
    before = await everything(world)
    request = pb.AnswerLinkRequest(token=token, body=HttpBody(content_type=kind, data=data))
    assert (await refused(links.AnswerLink(request))).code == CODE.INVALID_ARGUMENT
    assert await everything(world) == before
