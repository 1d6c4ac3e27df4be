"""`wfe runs start --at --delay`: a start that waits."""

from __future__ import annotations


def test_a_start_says_when(server, wfe):
    server.on(
        "GET", "/api/v1/templates", {"templates": [{"id": server.TEMPLATE, "name": "hello", "latest_version": 2}]}
    )
    server.on("POST", "/api/v1/workflows", server.run(status="pending"), 201)
    assert wfe("runs", "start", "hello", "--at", "2030-01-01T00:00:00Z", "--delay", "60").exit_code == 0
    given = server.asked[-1].body
    assert (given["start_at"], given["delay_seconds"]) == ("2030-01-01T00:00:00Z", 60)
    assert wfe("runs", "start", "hello").exit_code == 0
    assert not {"start_at", "delay_seconds"} & set(server.asked[-1].body)
