"""`wfe secrets`: values go in by prompt, standard input or file, and never by the command line."""

from __future__ import annotations

SHOWN = {"name": "A", "version": 2, "created_at": "2026-01-01T10:00:00Z", "updated_at": "2026-01-01T10:00:00Z"}


def test_set_takes_standard_input_or_a_file(server, wfe, tmp_path):
    server.on("PUT", "/api/v1/secrets/A", SHOWN)
    assert wfe("secrets", "set", "A", input="value\n").stdout == "A: version 2\n"
    (tmp_path / "value").write_text("from file\r\n")
    wfe("secrets", "set", "A", "--file", str(tmp_path / "value"), "--expected-version", "1")
    assert [asked.body for asked in server.asked] == [
        {"value": "value"},
        {"value": "from file", "expected_version": 1},
    ]
    assert server.asked[0].headers["authorization"] == "Bearer wfe_root"
    assert wfe("secrets", "set", "A", "value").exit_code == 2


def test_list_and_delete(server, wfe):
    server.on("GET", "/api/v1/secrets", {"secrets": [SHOWN], "total": 1})
    server.on("DELETE", "/api/v1/secrets/A", SHOWN)
    listed = wfe("secrets", "list").stdout
    assert "A" in listed
    assert "2" in listed
    assert wfe("secrets", "delete", "A").stdout == "deleted A\n"


def test_rotation_needs_the_key_file_and_the_store(wfe, tmp_path):
    result = wfe("admin", "secrets", "rotate-key", "--key-file", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert "No such file" in result.stderr
    (tmp_path / "seal.key").write_text("A" * 43 + "=\n")
    result = wfe("admin", "secrets", "rotate-key", "--key-file", str(tmp_path / "seal.key"))
    assert result.exit_code == 2
    assert "--database-url" in result.stderr
    assert (tmp_path / "seal.key").read_text().count("\n") == 1, "nothing was changed"
