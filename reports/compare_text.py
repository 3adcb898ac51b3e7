"""A comparison for terminals and in Markdown: from its typed rows alone."""

from __future__ import annotations

import re
from functools import partial
from textwrap import fill, indent, shorten

from cnnformance.reports.compare import Code, Comparison, Instance, Row

WORDS = {
    "same": "the same",
    "rounding": "the same but for rounding",
    "differs": "differs",
    "unknown": "cannot be measured",
}
"""How a status is told."""

_WIDTH = 100
_LINES = 40
"""Lines of a script that a terminal is shown."""
_LONG = 60
"""Characters of a recorded value that a terminal is shown."""


def agreements(row: Row) -> list[tuple[str, str]]:
    """Return for which configurations the two agree, and which are unknown: labels and texts.

    The others stand in what the row says of each.
    """
    kinds = {
        "agree": row.where("same", "rounding"),
        "both lack": row.where("both lack it"),
        "unmeasured": row.where("unknown"),
    }
    return [(label, places) for label, places in kinds.items() if places]


def headed(code: Code) -> str:
    """Return what a piece of code is for."""
    return f"For what {code.like} gives ({code.of}), write in {code.subject}"


def smallest(example: Instance) -> str:
    """Return the configuration of an example, and its input."""
    told = not example.input or example.input in example.name
    return example.name if told else f"{example.name}, input {example.input}"


def short(row: Row, names: tuple[str, str]) -> str:
    """Return what there is to say where nothing differs: one line; empty where something does."""
    if row.status == "differs":
        return ""
    if row.status == "rounding":
        said = "; ".join(f"{name}: {says}" for name, says in zip(names, row.says, strict=True))
        return f"{WORDS['rounding']}, which is no difference ({said})"
    if row.status == "unknown":
        told = zip(names, row.says, strict=True)
        said = "; ".join(f"{name}: {says}" for name, says in told if says)
        return f"{WORDS['unknown']}{f' ({said})' if said else ''}"
    return WORDS["same"]


def _label(label: str, text: str, width: int = 11) -> str:
    return fill(
        text,
        _WIDTH,
        initial_indent=f"   {label:<{width}} ",
        subsequent_indent=" " * (width + 4),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _source(source: str) -> str:
    """Return a script, indented; of a long one its beginning."""
    lines = source.rstrip().splitlines()
    rest = len(lines) - _LINES
    if rest > 0:
        lines = [*lines[:_LINES], f"# ... and {rest} more lines, which --format json shows"]
    return indent("\n".join(lines), " " * 7)


def _row(number: int, row: Row, names: tuple[str, str]) -> str:
    if told := short(row, names):
        return fill(f"{number:>2} {row.title}: {told}", _WIDTH, subsequent_indent="   ")
    label = partial(_label, width=max(11, *map(len, names)))
    lines = [f"{number:>2} {row.title}"]
    lines += [label(name, says) for name, says in zip(names, row.says, strict=True)]
    lines += [label(kind, places) for kind, places in agreements(row)]
    if example := row.example:
        lines.append(label("smallest", smallest(example)))
        for name, answer in zip(names, example.answers, strict=True):
            lines.append(label("", f"{name}: {answer}"))
    lines += [
        label("recorded", " | ".join(shorten(told, _LONG, placeholder=" ...") for told in each))
        for each in row.recorded
        if each[1] != each[2]
    ]
    for code in row.code:
        lines.append(label("instead", headed(code) + (f": {code.why}" if code.why else ":")))
        if code.source:
            lines += ["", _source(code.source), ""]
            lines.append(label("", f"which was run, and gives {code.gave}"))
    return "\n".join(lines)


def text(found: Comparison) -> str:
    """Return a comparison for a terminal."""
    names = found.names
    parts = [f"{names[0]} and {names[1]}, for whoever ports a model from one to the other"]
    parts += [
        fill(f"{p.subject} {p.version}: {p.source}", _WIDTH, subsequent_indent="  ")
        for p in found.parties
    ]
    parts.append("")
    parts += [_row(number, row, names) + "\n" for number, row in enumerate(found.rows, start=1)]
    parts += [fill(note, _WIDTH, subsequent_indent="  ") for note in found.notes]
    return "\n".join([*parts, *([""] if found.notes else []), found.closing]) + "\n"


def _escaped(said: str) -> str:
    plain = " ".join(said.split()).replace("\\", "\\\\")
    marked = re.sub(r"([|*`\[\]~$#]|(?<!\w)_|_(?!\w))", r"\\\1", plain)
    return marked.replace("&", "&amp;").replace("<", "&lt;")


def _marked(number: int, row: Row, names: tuple[str, str]) -> list[str]:
    head = f"## {number}. {_escaped(row.title)}"
    if told := short(row, names):
        return [head, "", _escaped(told), ""]
    lines = [head, ""]
    lines += [f"- **{_escaped(n)}**: {_escaped(s)}" for n, s in zip(names, row.says, strict=True)]
    lines += [f"- {label}: {_escaped(said)}" for label, said in agreements(row)]
    if example := row.example:
        lines += ["", f"| {_escaped(smallest(example))} | gives |", "| --- | --- |"]
        for name, answer in zip(names, example.answers, strict=True):
            lines.append(f"| {_escaped(name)} | {_escaped(answer)} |")
    if other := [each for each in row.recorded if each[1] != each[2]]:
        lines += ["", f"| recorded | {_escaped(names[0])} | {_escaped(names[1])} |"]
        lines += ["| --- | --- | --- |"]
        lines += [f"| {' | '.join(map(_escaped, each))} |" for each in other]
    for code in row.code:
        lines += ["", f"{_escaped(headed(code))}{f': {_escaped(code.why)}' if code.why else ':'}"]
        if code.source:
            fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code.source))])
            lines += ["", f"{fence}python", code.source.rstrip(), fence, ""]
            lines.append(f"It was run, and gives {_escaped(code.gave)}.")
    return [*lines, ""]


def markdown(found: Comparison) -> str:
    """Return a comparison in Markdown."""
    names = found.names
    lines = [f"# {_escaped(names[0])} and {_escaped(names[1])}", ""]
    lines += [f"- {_escaped(f'{p.subject} {p.version}: {p.source}')}" for p in found.parties]
    lines += ["", _escaped(found.closing), ""]
    for number, row in enumerate(found.rows, start=1):
        lines += _marked(number, row, names)
    lines += ["## Notes", "", *(f"- {_escaped(n)}" for n in found.notes), ""] if found.notes else []
    return "\n".join(lines)
