"""`wfe templates test` and `diff`: exit codes for CI, words for people, JSON for machines, no server without need."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner
from wfe_cli.main import app

SOURCE = """\
name: greet
variables: {person: {type: string, required: true}}
steps:
  - {id: send, call: {handler: send, input: {text: "Hi ${{ vars.person }}"}}}
  - {id: ask, approval: {title: x, approvers: {users: [u]}, expires: {after: 1h, then: reject}}}
output: {sent: "${{ steps.send.output.text }}"}
"""
CASES = """\
input: {person: Ada}
handlers: {send: {echo: true}}
cases:
  good: {steps: {ask: approve}, expect: {output: {sent: Hi Ada}}}
  late: {steps: {ask: expire}, expect: {error: APPROVAL_REJECTED, takes: 1h}}
"""


@pytest.fixture
def files(tmp_path):
    def make(**texts: str) -> list[str]:
        paths = [tmp_path / f"{name}.yaml" for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text)
        return [str(path) for path in paths]

    return make


def test_cases_that_pass(wfe, server, files):
    source, cases = files(source=SOURCE, cases=CASES)
    result = wfe("templates", "test", source, "--mock", cases)
    assert result.exit_code == 0
    assert [line.rpartition("  ")[0] for line in result.stdout.splitlines()] == [
        f"ok   {source}: good",
        f"ok   {source}: late",
    ]
    assert server.asked == []


def test_cases_that_fail_are_said_and_give_1(wfe, files):
    source, cases = files(source=SOURCE, cases=CASES.replace("Hi Ada", "Hello Ada").replace("1h}", "2h}"))
    result = wfe("templates", "test", source, "--mock", cases)
    assert result.exit_code == 1
    assert f"FAIL {source}: good" in result.stdout
    assert 'output is {"sent": "Hi Ada"}; expected {"sent": "Hello Ada"}' in result.stderr
    assert "the run takes 3600 s; expected 2h" in result.stderr
    assert result.stderr.endswith("wfe: 2 of 2 cases failed\n")


def test_one_case_and_json(wfe, files):
    source, cases = files(source=SOURCE, cases=CASES)
    answer = json.loads(wfe("templates", "test", source, "--mock", cases, "--case", "late", "--json").stdout)
    (case,) = answer["cases"]
    assert (answer["passed"], case["case"], case["status"], case["takes_seconds"]) == (True, "late", "failed", 3600)
    assert [(step["path"], step["status"]) for step in case["steps"]] == [("send", "completed"), ("ask", "failed")]
    failing = wfe("templates", "test", source, "--mock", files(wrong=CASES.replace("Ada}\nh", "Eve}\nh"))[0], "--json")
    assert failing.exit_code == 1
    assert json.loads(failing.stdout)["cases"][0]["problems"]
    assert wfe("templates", "test", source, "--mock", cases, "--case", "nope").exit_code == 2


def test_a_faulty_template_and_faulty_cases_give_1_and_their_places(wfe, files):
    source, cases, wrong, bad = files(
        source=SOURCE, cases=CASES, wrong=SOURCE.replace("send.output", "snd.output"), bad="stepz: 1"
    )
    template = wfe("templates", "test", wrong, "--mock", cases)
    assert template.exit_code == 1
    assert f"{wrong}:6:21: output.sent: There is no step snd. Did you mean send?" in template.stderr
    mocks = wfe("templates", "test", source, "--mock", bad)
    assert mocks.exit_code == 1
    assert f"{bad}:1:1: stepz: The key stepz is not known here. Did you mean steps?" in mocks.stderr
    assert wfe("templates", "test", source, "--mock", "nowhere.yaml").exit_code == 2


def test_the_diff_of_two_files(wfe, server, files):
    old, new = files(
        old=SOURCE,
        new=SOURCE.replace("Hi ${{", "Hello ${{")
        .replace("person: {type: string,", "who: {type: string,")
        .replace("vars.person", "vars.who"),
    )
    result = wfe("templates", "diff", old, new)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "- variables.person  BREAKING: starts that give it are refused",
        "+ variables.who  BREAKING: starts without it are refused",
        '~ steps.send.params.input.text: "Hi ${{ vars.person }}" -> "Hello ${{ vars.who }}"',
        "3 changes, 2 of them breaking",
    ]
    assert wfe("templates", "diff", old, new, "--fail-on-breaking").exit_code == 1
    assert wfe("templates", "diff", old, old, "--fail-on-breaking").stdout == "no changes\n"
    answer = json.loads(wfe("templates", "diff", old, new, "--json").stdout)
    assert (answer["breaking"], len(answer["changes"]), server.asked) == (True, 3, [])


def test_the_diff_of_published_versions(wfe, server, files):
    (new,) = files(new=SOURCE.replace("1h", "2h"))
    server.on(
        "GET", "/api/v1/templates", {"templates": [{"id": server.TEMPLATE, "name": "greet", "latest_version": 3}]}
    )
    server.on("GET", f"/api/v1/templates/{server.TEMPLATE}/versions/3", {"source": SOURCE})
    server.on("GET", f"/api/v1/templates/{server.TEMPLATE}/versions/1", {"source": SOURCE.replace("Hi", "Hey")})
    assert "steps.ask.params.expires_after: 3600" in wfe("templates", "diff", "greet", new).stdout
    assert "Hey" in wfe("templates", "diff", "greet@1", "greet@3").stdout
    assert wfe("templates", "diff", "greet@x", new).exit_code == 2


def test_a_template_is_checked_without_a_server(tmp_path, monkeypatch, files):
    monkeypatch.chdir(tmp_path)
    for name in ("WFE_URL", "WFE_API_KEY", "WFE_HOME"):
        monkeypatch.delenv(name, raising=False)
    sound, wrong = files(
        sound=SOURCE, wrong=SOURCE.replace("send.output", "snd.output").replace("title: x", "titel: x")
    )
    result = CliRunner().invoke(app, ["templates", "validate", sound])
    assert (result.exit_code, result.stdout) == (0, f"{sound}: no faults\n")
    assert "handlers are not checked" in result.stderr
    result = CliRunner().invoke(app, ["templates", "validate", wrong])
    assert result.exit_code == 1
    assert f"{wrong}:5:15: steps[1].approval: The key title is missing. Add `title:`." in result.stderr
    assert (
        f"{wrong}:5:26: steps[1].approval.titel: The key titel is not known here. Did you mean title?" in result.stderr
    )
    assert f"{wrong}:6:21: output.sent: There is no step snd. Did you mean send?" in result.stderr
    answer = json.loads(CliRunner().invoke(app, ["templates", "validate", wrong, "--json"]).stdout)
    assert [fault["line"] for fault in answer["faults"]] == [5, 5, 6]
    for named in (["--url", "http://127.0.0.1:1", "--key", "k"], ["--key", "k"]):
        result = CliRunner().invoke(app, [*named, "templates", "validate", sound])
        assert (result.exit_code, "does not answer" in result.stderr) == (1, True)


def test_what_calls_no_server_reads_no_client_of_one(files):
    source, cases = files(source=SOURCE, cases=CASES)
    code = """
import sys
from typer.testing import CliRunner
from wfe_cli.main import app
assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0
print([name for name in ("aiohttp", "rich.console", "google.protobuf", "psycopg", "grpc") if name in sys.modules])
"""
    words = ["templates", "test", source, "--mock", cases]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
