"""`wfe webhooks` and `wfe hooks`, against a server that answers as told."""

from __future__ import annotations

import json

WEBHOOK = "0190163d-8694-739b-aea5-000000000011"
DELIVERY = "0190163d-8694-739b-aea5-000000000012"


def a_webhook(**changes):
    return {
        "id": WEBHOOK,
        "name": "mine",
        "url": "https://example.com/[x]",
        "event_types": ["run.*"],
        "status": "enabled",
        "disabled_reason": "",
        "secret": "",
        "public_key": "",
        **changes,
    }


def a_delivery(**changes):
    attempt = {"at": "2026-01-01T10:00:00Z", "status": 204, "duration_ms": 7, "error": ""}
    return {
        "id": DELIVERY,
        "type": "webhook.ping",
        "status": "delivered",
        "attempts": 1,
        "created_at": "2026-01-01T10:00:00Z",
        "log": [attempt],
        **changes,
    }


def test_create_shows_the_secret_once(server, wfe):
    server.on("POST", "/api/v1/webhooks", a_webhook(secret="whsec_x"), 201)
    result = wfe("webhooks", "create", "https://example.com", "-e", "run.*", "--ordered", "--filter", "true")
    assert result.stdout.splitlines() == [WEBHOOK, "whsec_x"]
    assert "not shown again" in result.stderr
    body = server.asked[-1].body
    assert (body["event_types"], body["ordered"], body["filter"]) == (["run.*"], True, "true")


def test_list_and_get_show_no_markup(server, wfe):
    gone = a_webhook(status="disabled", disabled_reason="gone")
    server.on("GET", "/api/v1/webhooks", {"webhooks": [a_webhook(), gone], "total": 2})
    out = wfe("webhooks", "list").stdout
    assert "https://example.com/[x]" in out
    assert "disabled (gone)" in out
    server.on("GET", f"/api/v1/webhooks/{WEBHOOK}", a_webhook())
    assert "url: https://example.com/[x]" in wfe("webhooks", "get", WEBHOOK).stdout


def test_ping_says_what_came_of_it(server, wfe):
    server.on("POST", f"/api/v1/webhooks/{WEBHOOK}/ping", a_delivery())
    failed = {"at": "2026-01-01T10:00:00Z", "status": 500, "duration_ms": 7, "error": "it answered 500"}
    server.on("POST", f"/api/v1/webhooks/{WEBHOOK}/ping", a_delivery(status="pending", log=[failed]))
    result = wfe("webhooks", "ping", WEBHOOK)
    assert result.exit_code == 0
    assert "taken" in result.stdout
    result = wfe("webhooks", "ping", WEBHOOK)
    assert result.exit_code == 1
    assert "it answered 500" in result.stdout


def test_deliveries_and_redeliver(server, wfe):
    path = f"/api/v1/webhooks/{WEBHOOK}"
    server.on("GET", f"{path}/deliveries", {"deliveries": [a_delivery(log=[])], "total": 1})
    assert DELIVERY in wfe("webhooks", "deliveries", WEBHOOK, "--status", "failed").stdout
    assert server.asked[-1].query["status"] == "failed"
    server.on("GET", f"{path}/deliveries/{DELIVERY}", a_delivery())
    assert "204" in wfe("webhooks", "deliveries", WEBHOOK, DELIVERY).stdout
    server.on("POST", f"{path}/redeliver", {"count": 3})
    assert wfe("webhooks", "redeliver", WEBHOOK, "--since", "2026-01-01T00:00:00Z").stdout == "3 to be sent again\n"
    assert server.asked[-1].body == {"since": "2026-01-01T00:00:00Z", "status": "failed"}
    assert wfe("webhooks", "redeliver", WEBHOOK).exit_code == 2
    assert wfe("webhooks", "redeliver", WEBHOOK, DELIVERY, "--since", "2026-01-01T00:00:00Z").exit_code == 2


def test_switches_rotate_and_delete(server, wfe):
    path = f"/api/v1/webhooks/{WEBHOOK}"
    server.on("POST", f"{path}/disable", a_webhook(status="disabled", disabled_reason="asked"))
    assert wfe("webhooks", "disable", WEBHOOK).stdout.startswith("disabled")
    server.on("POST", f"{path}/enable", a_webhook())
    assert wfe("webhooks", "enable", WEBHOOK).stdout.startswith("enabled")
    server.on("POST", f"{path}/rotate", a_webhook(secret="whsec_y"), 201)
    assert "whsec_y" in wfe("webhooks", "rotate", WEBHOOK, "--overlap", "5").stdout
    assert server.asked[-1].body == {"overlap_seconds": 5}
    server.on("DELETE", path, a_webhook())
    assert wfe("webhooks", "delete", WEBHOOK).stdout == f"removed {WEBHOOK}\n"


def test_hooks(server, wfe):
    hook = {"id": WEBHOOK, "name": "", "scheme": "github", "template_id": "t", "filter": "", "signal": ""}
    hook["path"] = "/api/v1/hooks/h"
    server.on("POST", "/api/v1/hooks", {**hook, "secret": "s3cret"}, 201)
    result = wfe("hooks", "create", "t", "--scheme", "github", "--set", 'text=body.a == "b=c"')
    assert result.stdout.splitlines()[0].endswith("/api/v1/hooks/h")
    assert "s3cret" in result.stdout
    assert server.asked[-1].body["input"] == {"text": 'body.a == "b=c"'}
    server.on("GET", "/api/v1/hooks", {"hooks": [hook], "total": 1})
    assert json.loads(wfe("hooks", "list", "--json").stdout)["hooks"][0]["id"] == WEBHOOK
    server.on("DELETE", f"/api/v1/hooks/{WEBHOOK}", hook)
    assert wfe("hooks", "delete", WEBHOOK).exit_code == 0


def test_hooks_that_send_signals(server, wfe):
    hook = {"id": WEBHOOK, "name": "", "scheme": "standard", "template_id": "", "filter": "", "signal": "paid"}
    server.on("POST", "/api/v1/hooks", {**hook, "path": "/api/v1/hooks/h", "secret": "s3cret"}, 201)
    assert wfe("hooks", "create", "--signal", "paid", "--workflow", "body.run").exit_code == 0
    assert {key: server.asked[-1].body[key] for key in ("signal", "workflow")} == {
        "signal": "paid",
        "workflow": "body.run",
    }
    server.on("GET", "/api/v1/hooks", {"hooks": [hook], "total": 1})
    assert "paid" in wfe("hooks", "list").stdout
