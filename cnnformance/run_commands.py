"""The commands about several runs: ``cnnformance runs | diff | merge | history``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnnformance.reports.places import FILE, FOLDER, RecordError, resolve

if TYPE_CHECKING:
    from cnnformance.reports.records import Run

Answer = Callable[[argparse.Namespace], str | tuple[str, int]]
"""What answers a command: the text, and the exit status where it is not 0."""

A_RUN = f"a {FILE}, a folder that holds one, the name of a run, latest or previous"
FORMATS = (
    "table", "markdown", "json", "html", "csv", "github", "annotations", "badge", "endpoint"
)  # fmt: skip
"""The names of ``reports.formats``, which is not imported to parse the words of a command."""
_FAIL_ON = ("new", "changed", "any")


def read(argument: str | None) -> Run:
    """Return the run that an argument of the command line names."""
    from cnnformance.reports import records  # noqa: PLC0415 - pydantic, which `backends` needs not

    return records.read(resolve(argument, Path.cwd()))


def add_choice(command: argparse.ArgumentParser) -> None:
    """Add the options that choose some of the verdicts of a run."""
    command.add_argument(
        "--subject", action="append", default=[], metavar="S", help="of this alone; repeatable"
    )
    command.add_argument(
        "--layer", action="append", default=[], metavar="L", help="of this alone; repeatable"
    )
    command.add_argument("--failures", action="store_true", help="what fails alone")
    command.add_argument(
        "--finding", type=int, metavar="N", help="one finding alone, by its number in the report"
    )


def chosen(options: argparse.Namespace) -> Run:
    """Return the run that the options name, or what they choose of it."""
    from cnnformance.reports import selection  # noqa: PLC0415 - as above

    return selection.part(
        read(options.run),
        options.subject,
        options.layer,
        failures=options.failures,
        finding=options.finding,
    )


def _diff(options: argparse.Namespace) -> tuple[str, int]:
    from cnnformance.reports import diff  # noqa: PLC0415 - as above

    if options.second is None and not options.between:
        raise RecordError(
            "diff needs a second run, or --between SUBJECT SUBJECT to compare within one"
        )
    first = read(options.first)
    second = first if options.second is None else read(options.second)
    between = tuple(options.between) if options.between else None
    found = diff.compare(first, second, between)
    failed = options.fail_on is not None and found.fails(options.fail_on)
    return diff.text(found, options.format), int(failed)


def _merge(options: argparse.Namespace) -> tuple[str, int]:
    from cnnformance.reports import brief, merge, records  # noqa: PLC0415 - as above

    if not options.output:
        raise ValueError("merge needs --output FILE, where the joined record goes")
    output, options.output = Path(options.output), None  # what follows is for the screen
    runs = [read(argument) for argument in options.runs]
    if output.resolve() in {run.path.resolve() for run in runs}:
        raise ValueError(f"--output {output}: this is one of the records; name another file")
    if output.is_file() and not records.is_record(output):
        raise ValueError(f"--output {output}: this is no record; name a new file, or an older one")
    merged = merge.merge(runs)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("".join(merged.lines()), encoding="utf-8")
    told = [f"contradiction: {' '.join(line.split())}" for line in merged.contradictions]
    told += filter(None, [brief.banner(merged.run), brief.closing(merged.run)])
    return "\n".join([*told, f"verdicts: {output}", ""]), int(bool(merged.contradictions))


def _runs(options: argparse.Namespace) -> str:
    from cnnformance.reports import listing, markdown, records, render  # noqa: PLC0415 - as above

    listed = list(listing.runs(Path(options.folder)))
    if options.format == "json":
        return json.dumps(records.encode(listing.data(listed)), indent=1) + "\n"
    if not listed:
        there = Path(options.folder) / FOLDER
        raise RecordError(f"no run under {there}; make one with `pytest conformance`")
    show = markdown.table if options.format == "markdown" else render.terminal_table
    return show(listing.table(listed))


def _history(options: argparse.Namespace) -> str:
    from cnnformance import history_command  # noqa: PLC0415 - as above

    return history_command.answer(options)


def register(command: Callable[[str, Answer, str], argparse.ArgumentParser]) -> None:
    """Add the commands to a command line, by what adds one."""
    runs = command("runs", _runs, "List the runs that were made here, the newest first.")
    runs.add_argument(
        "folder", metavar="FOLDER", nargs="?", default=".", help=f"that holds {FOLDER}; default: ."
    )
    runs.add_argument("--format", choices=["table", "markdown", "json"], default="table")

    merge = command("merge", _merge, "Join records of several machines, or shards, in one.")
    merge.add_argument("runs", metavar="RUN", nargs="+", help=A_RUN)

    diff = command("diff", _diff, "Compare two runs, or two subjects.")
    diff.add_argument("first", metavar="OLD", help=A_RUN)
    diff.add_argument("second", metavar="NEW", nargs="?", help=f"{A_RUN}; default: OLD")
    diff.add_argument(
        "--between",
        nargs=2,
        metavar="SUBJECT",
        help="compare the first subject, of OLD, with the second, of NEW",
    )
    diff.add_argument(
        "--fail-on",
        choices=_FAIL_ON,
        help="exit with 1 where a failure is new, an answer changed, or anything differs; and "
        "where NEW alone is partial",
    )
    diff.add_argument("--format", choices=["table", "markdown"], default="table")

    past = command("history", _history, "Show which version brought or mended what.")
    past.add_argument("name", metavar="NAME", help="a backend, and its mode: onnxruntime:disabled")
    said = "those to show; what has no fresh record is asked, in an environment of its own"
    past.add_argument("--versions", metavar="A,B,C", default="", help=said)
    said = f"show this record, and ask nothing; repeatable: {A_RUN}"
    past.add_argument("--run", metavar="RUN", action="append", default=[], help=said)
    past.add_argument("--profile", choices=["quick", "default", "thorough"], default="quick")
    past.add_argument("--seed", type=int, default=0, help="of all drawn cases (0)")
    past.add_argument("-n", dest="processes", type=int, metavar="PROCESSES", help="as of pytest")
    said = "as of pytest: the questions that are asked; default: all"
    past.add_argument("-k", dest="keyword", metavar="EXPRESSION", default="", help=said)
    past.add_argument("--again", action="store_true", help="ask what has a fresh record too")
    forms = ["table", "markdown", "json", "html", "csv"]
    past.add_argument("--format", choices=forms, default="table")
