"""`wfe templates test` and `diff`: what authors do at their own desk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from wfe_stack.rest import Rest

from wfe_cli import inputs, show
from wfe_cli.commands import AsJson, AsPerson, command, target
from wfe_cli.faults import Failed, UsageFault
from wfe_cli.templates import AUTHOR, File, app, find_template, print_faults

if TYPE_CHECKING:
    from wfe_engine.plan import Plan
    from wfe_simulator import Report

__all__ = ["app"]

# The language and the simulator are read by the commands that need them: all others would pay for them, too.


@command(app, "test")
async def run_cases(
    file: File,
    mock: Annotated[Path, typer.Option("--mock", help="Cases: input, what the steps do, what must come of it.")],
    case: Annotated[list[str] | None, typer.Option(help="Only cases of this name; several times for several.")] = None,
    json: AsJson = False,
) -> None:
    """Run a template in memory, with mocked steps and a clock that jumps; no server. Exit code 1 when a case fails."""
    from wfe_simulator import CasesFault, read_cases, run_case

    plan = _compiled(file, quiet=json)
    try:
        cases = read_cases(inputs.read_text(mock))
    except CasesFault as error:
        if not json:
            print_faults(mock, [msgspec.to_builtins(fault) for fault in error.faults], quiet=False)
        raise UsageFault(f"{mock}: {error}") from None
    if unknown := set(case or ()) - {each.name for each in cases}:
        raise UsageFault(f"{mock} has no case {sorted(unknown)[0]!r}")
    reports = [run_case(plan, each) for each in cases if not case or each.name in case]
    failed = [report for report in reports if not report.passed]
    if json:
        show.print_json({"passed": not failed, "cases": [_as_json(report) for report in reports]})
    else:
        for report in reports:
            _print(file, report)
    if failed:
        raise Failed("" if json else f"{len(failed)} of {len(reports)} cases failed")


def _compiled(file: Path, *, quiet: bool) -> Plan:
    import wfe_language
    from wfe_language import TemplateFaults

    try:
        return wfe_language.compile(inputs.read_text(file))
    except TemplateFaults as error:
        print_faults(file, [msgspec.to_builtins(fault) for fault in error.faults], quiet=quiet)
        raise Failed("") from None


def _name(report: Report) -> str:
    return report.case or "case"


def _print(file: Path, report: Report) -> None:
    word = "ok  " if report.passed else "FAIL"
    typer.echo(f"{word} {file}: {_name(report)}  {report.seconds * 1000:.1f} ms")
    for problem in report.problems:
        typer.echo(f"     {problem}", err=True)


def _as_json(report: Report) -> dict[str, Any]:
    result = report.result
    answer: dict[str, Any] = {"case": report.case, "passed": report.passed, "problems": report.problems}
    if result is not None:
        answer |= {
            "status": result.status,
            "reason": result.reason,
            "output": result.output,
            "error": result.error,
            "takes_seconds": result.took,
            "emitted": [{"name": name, "data": data} for name, data in result.emitted],
            "steps": [
                {
                    "path": step.path, "iteration": step.iteration, "kind": step.kind, "status": step.status,
                    "attempts": step.attempts, "output": step.output, "error": step.error,
                }
                for step in result.steps
            ],
        }  # fmt: skip
    return answer


@command(app, "diff")
async def diff(
    old: Annotated[str, typer.Argument(help="A file, TEMPLATE for its newest version, or TEMPLATE@VERSION.")],
    new: Annotated[str, typer.Argument(help="What to compare it with, likewise.")],
    fail: Annotated[bool, typer.Option("--fail-on-breaking", help="Exit code 1 when a change is breaking.")] = False,
    as_: AsPerson = None,
    json: AsJson = False,
) -> None:
    """What changed between two sources or versions: variables, steps, output; and whether it breaks callers."""
    import wfe_language

    plans = [await _plan(text, as_, quiet=json) for text in (old, new)]
    changes = wfe_language.compare(*plans)
    breaking = sum(change.breaking for change in changes)
    if json:
        show.print_json({"breaking": breaking > 0, "changes": [msgspec.to_builtins(change) for change in changes]})
    else:
        for change in changes:
            typer.echo(str(change))
        typer.echo(f"{len(changes)} changes, {breaking} of them breaking" if changes else "no changes")
    if fail and breaking:
        raise Failed("")


async def _plan(text: str, as_: str | None, *, quiet: bool) -> Plan:
    import wfe_language
    from wfe_language import TemplateFaults

    if (file := _file(text)) is not None:
        return _compiled(file, quiet=quiet)
    name, _, version = text.partition("@")
    if version and not version.isdigit():
        raise UsageFault(f"{text!r} is neither a file nor a template with a version, like publish-article@3")
    async with target().caller(as_, AUTHOR) as rest:
        source = await _source(rest, name, version)
    try:
        return wfe_language.compile(source)
    except TemplateFaults as error:
        raise Failed(f"{text} cannot be read: {error.faults[0]}") from None


def _file(text: str) -> Path | None:
    return Path(text) if Path(text).is_file() else None


async def _source(rest: Rest, name: str, version: str) -> str:
    found = await find_template(rest, name)
    number = version or found.get("latest_version")
    if not number:
        raise UsageFault(f"{name} has no published version")
    return str((await rest.get(f"/api/v1/templates/{found['id']}/versions/{number}"))["source"])
