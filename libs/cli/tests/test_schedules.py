"""`wfe schedules`: what is asked of the server, and what people read."""

from __future__ import annotations

ID = "0190163d-8694-739b-aea5-000000000009"
SHOWN = {
    "id": ID,
    "name": "nightly",
    "status": "active",
    "cron": "0 2 * * *",
    "time_zone": "UTC",
    "revision": 3,
    "next_at": "2026-01-01T02:00:00Z",
}
FIRED = {"at": "2026-01-01T10:00:00Z", "status": "skipped", "reason": "a run has not ended"}


def known(server) -> None:
    server.on("GET", "/api/v1/schedules", {"schedules": [SHOWN], "total": 1})
    server.on(
        "GET", "/api/v1/templates", {"templates": [{"id": server.TEMPLATE, "name": "hello", "latest_version": 2}]}
    )
    source = "name: hello\nvariables: {count: {type: integer}}"
    server.on("GET", f"/api/v1/templates/{server.TEMPLATE}/versions/2", {"source": source})


def test_create_gives_values_of_the_types_the_template_declares(server, wfe):
    known(server)
    server.on("POST", "/api/v1/schedules", SHOWN, 201)
    options = [
        "--time-zone",
        "Europe/Berlin",
        "--overlap",
        "queue",
        "--catch-up",
        "60",
        "-i",
        "count=3",
        "--label",
        "a=b",
    ]
    made = wfe("schedules", "create", "nightly", "hello", "--cron", "0 2 * * *", *options)
    assert made.exit_code == 0, made.stderr
    assert made.stdout.startswith("nightly  active  0 2 * * * (UTC)  next 2026-01-01")
    assert server.asked[-1].body == {
        "name": "nightly",
        "template_id": server.TEMPLATE,
        "cron": "0 2 * * *",
        "time_zone": "Europe/Berlin",
        "overlap": "queue",
        "catch_up_seconds": 60,
        "input": {"count": 3},
        "labels": {"a": "b"},
    }
    assert wfe("schedules", "create", "nightly", "hello").exit_code == 2, "without a cron expression"


def test_update_refuses_to_overwrite_what_it_has_not_seen(server, wfe):
    known(server)
    server.on("PUT", f"/api/v1/schedules/{ID}", SHOWN)
    assert wfe("schedules", "update", "nightly", "hello", "--cron", "0 3 * * *", "--version", "2").exit_code == 0
    body = server.asked[-1].body
    assert (body["name"], body["expected_revision"], body["version"]) == ("nightly", 3, 2)


def test_schedules_are_named_or_given_by_id(server, wfe):
    known(server)
    server.on("GET", f"/api/v1/schedules/{ID}", {**SHOWN, "firings": [FIRED]})
    by_name, by_id = wfe("schedules", "get", "nightly"), wfe("schedules", "get", ID)
    assert by_name.stdout == by_id.stdout
    assert "skipped" in by_name.stdout
    assert "a run has not ended" in by_name.stdout
    listed = wfe("schedules", "list").stdout
    assert "nightly" in listed
    assert ID in listed


def test_actions(server, wfe):
    known(server)
    for action in ("pause", "resume"):
        server.on("POST", f"/api/v1/schedules/{ID}/{action}", {**SHOWN, "status": "paused", "next_at": None})
        assert "paused" in wfe("schedules", action, "nightly").stdout
    server.on("POST", f"/api/v1/schedules/{ID}/trigger", server.run(), 201)
    assert wfe("schedules", "trigger", "nightly", "--reason", "now").stdout == f"started {server.RUN}\n"
    assert server.asked[-1].body == {"reason": "now"}
    server.on("DELETE", f"/api/v1/schedules/{ID}", SHOWN)
    assert wfe("schedules", "delete", "nightly").stdout == "deleted nightly\n"


def test_a_schedule_that_is_none(server, wfe):
    server.on("GET", "/api/v1/schedules", {"schedules": [], "total": 0})
    result = wfe("schedules", "pause", "nothing")
    assert result.exit_code == 2
    assert "there is no schedule" in result.stderr
