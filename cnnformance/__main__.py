"""The command line, ``cnnformance COMMAND``; commands about several runs: ``run_commands``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
import webbrowser
from pathlib import Path
from typing import Any, NoReturn, get_args

from tabulate import tabulate

from cnnformance import __version__, run_commands
from cnnformance.adapters import npm, registry, sources
from cnnformance.reports.places import RecordError, resolve
from cnnformance.reports.printable import printable
from cnnformance.spec.levels import Level
from cnnformance.spec.suggestions import instead

_EXITS = """\
exit status: 0 when the answer could be given, whatever it says; 2 when the input is unusable.
A report on failures is still a report: `pytest conformance` is what fails. `try` exits with 1
where the adapter needs work, `diff` where --fail-on says so, `merge` where records contradict
each other."""


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _backends(_: argparse.Namespace) -> str:
    interface = sources.of("cnnformance.adapters.backend")
    defaults = interface.attributes("Backend") if interface else {}
    rows = []
    for name, path in registry.registered().items():
        module, class_name = path.split(":")
        source = sources.of(module)
        told = {**defaults, **source.attributes(class_name)} if source else {}
        packages = (source and source.frameworks()) or ["numpy"]
        there = (
            "; ".join(map(sources.version, packages))
            if source
            else f"{module}: no module that can be read"
        )
        if name in npm.PACKAGES:
            there = f"{name} {registry.installed_version(name) or 'not installed'}"
        columns = (_words(told.get(key, sources.UNKNOWN)) for key in ("layout", "modes", "dtypes"))
        rows.append([name, there, *columns, path])
    head = ["backend", "installed", "layout", "modes", "dtypes", "class"]
    widths = [None, 28, None, 20, 40, None]
    return tabulate(rows, head, disable_numparse=True, maxcolwidths=widths) + "\n"


def _report(options: argparse.Namespace) -> str:
    from cnnformance.reports import formats  # noqa: PLC0415 - pydantic, which `backends` needs not

    run = run_commands.chosen(options)
    if options.open:
        if options.format not in (None, "html"):
            raise ValueError("--open shows the page: leave out --format, or say --format html")
        options.output = options.output or str(run.path.with_name("report.html"))
    return formats.FORMATS[options.format or ("html" if options.open else "table")](run)


def _show(page: Path) -> None:
    """Open a page in the browser, and say where it is."""
    opened = webbrowser.open(page.resolve().as_uri())
    sys.stdout.write(f"{page}\n" if opened else f"{page}: no browser was found to open it\n")


def _compare(options: argparse.Namespace) -> str:
    from cnnformance.conformance import comparing  # noqa: PLC0415 - as above
    from cnnformance.reports import compare_render  # noqa: PLC0415 - as above

    names = (options.first_subject, options.second_subject)
    seen = sys.stderr.isatty()

    def told(title: str) -> None:
        if seen:
            sys.stderr.write(f"\r\x1b[K{title}")
            sys.stderr.flush()

    try:
        found = comparing.compare(names, options.run or [], Path.cwd(), told)
    finally:
        told("")
    return compare_render.render(found, options.format)


def _try(options: argparse.Namespace) -> tuple[str, int]:
    from cnnformance import trial  # noqa: PLC0415 - as above
    from cnnformance.adapters.exceptions import Unavailable, Unknown  # noqa: PLC0415 - as above

    try:
        tried = trial.attempt(options.subject)
    except (Unavailable, Unknown) as error:
        raise ValueError(str(error)) from error
    return tried.text(), int(not tried.fine)


def _new_backend(options: argparse.Namespace) -> str:
    from cnnformance import new_backend  # noqa: PLC0415 - as above

    file, name = new_backend.write(options.name, options.output)
    options.output = None  # it is written, and what follows is for the screen
    return (
        f"{file} holds the backend {name}. Try it:\n\n"
        f"    cnnformance try {file}:{name}\n"
        f"    pytest --pyargs cnnformance.conformance --backend {file}:{name} --profile quick\n"
    )


def _record_divergence(options: argparse.Namespace) -> str:
    from cnnformance.conformance import divergence_entry  # noqa: PLC0415 - as above

    return (
        "\n\n".join(divergence_entry.entries(run_commands.read(options.run), options.question))
        + "\n"
    )


def _completion(options: argparse.Namespace) -> str:
    from cnnformance import completion  # noqa: PLC0415 - shtab, which no other command needs

    return completion.script(_parser(), options.shell)


def _clauses(options: argparse.Namespace) -> str:
    from cnnformance.spec import clauses  # noqa: PLC0415 - as above

    try:
        pattern = re.compile(options.grep, re.IGNORECASE)
    except re.error as error:
        said = f"--grep {options.grep}: {error}; a pattern is as in Python's re"
        raise ValueError(said) from error
    head = ["clause", "kind", "level", "section", "says"]
    rows = [
        [c.id, c.kind, c.level, c.section, c.says]
        for c in clauses.load().clauses.values()
        if not options.level or c.level in options.level
    ]
    rows = [row for row in rows if any(map(pattern.search, row))]
    if options.format == "json":
        return json.dumps([dict(zip(head, row, strict=True)) for row in rows], indent=1) + "\n"
    if not rows:
        return "No clause is of this level and has this pattern.\n"
    widths = [None, None, None, 28, 70]
    return tabulate(rows, head, disable_numparse=True, maxcolwidths=widths) + "\n"


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong with the words in one line, and for a misspelt one what was meant."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message, re.DOTALL)
        if choice:
            known = [name.strip(" '") for name in choice[2].split(",")]
            message = f"{message[: choice.start()]}no {choice[1]}; {instead(choice[1], known)}"
        said = " ".join(printable(message).split())
        self.exit(2, f"{self.prog}: {said} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cnnformance",
        description="Reports of the conformance suite for CNN layers; `pytest` runs it.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cnnformance {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, answer: run_commands.Answer, purpose: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=purpose, description=purpose, epilog=_EXITS)
        made.set_defaults(answer=answer, output=None)
        made.add_argument("--output", metavar="FILE", help="write there instead of to the screen")
        return made

    command("backends", _backends, "List the backends, and what is installed.")
    tried = command("try", _try, "Try an adapter in seconds, each layer once in each dtype.")
    tried.add_argument("subject", metavar="SUBJECT", help="as of --backend: my_backend.py:Mine")
    fresh = command("new-backend", _new_backend, "Write the first file of a backend, which runs.")
    fresh.add_argument("name", metavar="NAME", help="of the framework, such as my-engine")
    fresh.set_defaults(output=None)
    clauses = command("clauses", _clauses, "List the clauses of the specification.")
    clauses.add_argument("--level", action="append", choices=get_args(Level), help="repeatable")
    clauses.add_argument("--grep", metavar="PATTERN", default="", help="in any column, any case")
    clauses.add_argument("--format", choices=["table", "json"], default="table")

    a_run = run_commands.A_RUN
    report = command("report", _report, "Show the verdicts of a run.")
    report.add_argument("run", metavar="RUN", nargs="?", help=f"{a_run}; default: the newest")
    report.add_argument(
        "--format",
        choices=run_commands.FORMATS,
        metavar="|".join(run_commands.FORMATS),
        help="default: table",
    )
    run_commands.add_choice(report)
    report.add_argument(
        "--open",
        action="store_true",
        help="write the page, to --output or beside the record, and open it in the browser",
    )

    said = "Print the TOML of a first entry for the failures of a run, for you to edit."
    entry = command("record-divergence", _record_divergence, said)
    entry.add_argument("run", metavar="RUN", nargs="?", help=f"{a_run}; default: the newest")
    entry.add_argument("--question", metavar="ID", default="", help="of this question alone")

    compared = command("compare", _compare, "What two subjects do differently, and what to write.")
    compared.add_argument("first_subject", metavar="SUBJECT", help="as of --backend: torch")
    compared.add_argument("second_subject", metavar="SUBJECT", help="likewise: tensorflow:nn")
    said = f"{a_run}; default: the newest, if any; given twice: one for each subject"
    compared.add_argument("--run", metavar="RUN", action="append", help=said)
    compared.add_argument("--format", choices=["text", "markdown", "json", "html"], default="text")

    run_commands.register(command)
    completed = command("completion", _completion, "Print what completes commands in a shell.")
    completed.add_argument("shell", choices=["bash", "zsh"], help="whose startup file reads it")
    return parser


def _spare_record(options: argparse.Namespace) -> None:
    """Refuse to write an answer over the run that it was made from."""
    output = Path(options.output).resolve()
    named = [getattr(options, name, None) for name in ("run", "first", "second")]
    named = [each for n in named for each in (n if isinstance(n, list) else [n])]
    for argument in set(named):
        with contextlib.suppress(RecordError):
            if output == resolve(argument, Path.cwd()).resolve():
                said = f"--output {options.output}: this is the run's record; name another file"
                raise ValueError(said)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; those of the process by default.

    Returns:
        0 when the answer could be given (of ``try``: that the adapter is fine, and else 1; of
        ``diff`` and ``merge``: 1 as they say), 2 when the input is unusable: a run that is
        absent or malformed, a malformed specification, a file that cannot be written. One line on
        stderr says what and why.
    """
    options = _parser().parse_args(arguments)
    try:
        answer = options.answer(options)
        text, status = (answer, 0) if isinstance(answer, str) else answer
        if options.output:
            _spare_record(options)
            Path(options.output).write_text(text, encoding="utf-8", errors="replace")
            if getattr(options, "open", False):
                _show(Path(options.output))
        else:
            if isinstance(sys.stdout, io.TextIOWrapper):  # a character it lacks is shown as "?"
                sys.stdout.reconfigure(errors="replace")
            sys.stdout.write(printable(text))
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 0
    except (ValueError, OSError) as error:  # RecordError, DataError, and files
        message = " ".join(printable(str(error)).split())
        sys.stderr.write(f"cnnformance: {message}\n")
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
