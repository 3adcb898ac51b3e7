"""Where runs lie: the files of records, found by name, by folder or by age."""

from __future__ import annotations

import os
from pathlib import Path

from cnnformance.spec.suggestions import instead

FILE = "verdicts.jsonl"
FOLDER = ".cnnformance"
WORDS = ("latest", "previous")
"""The words for the newest run of a folder, and for the one before it."""


class RecordError(ValueError):
    """A run that cannot be found or read; one line with file, line number and remedy."""


def is_record(path: Path) -> bool:
    """Whether a file is empty, or begins as a record of verdicts does."""
    with path.open("rb") as file:
        begin = file.read(2)
        return not begin or (begin == b'{"' and b'"record"' in begin + file.read(1 << 16))


def runs(folder: Path) -> list[Path]:
    """Return the files of the runs that were made in a folder, the newest first."""
    found = [p for p in folder.glob(f"{FOLDER}/*/{FILE}") if p.is_file()]
    return sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.parent.name), reverse=True)


def resolve(argument: str | os.PathLike[str] | None, root: Path) -> Path:
    """Return the file of verdicts that an argument names.

    Args:
        argument: a file, a folder that holds ``verdicts.jsonl``, a folder in which runs were
            made, the name of a run made in ``root`` or the beginning of one, or a word of
            ``WORDS``; None is ``latest``. A file or folder of such a name is ``./latest``.
        root: the folder that relative names start from.

    Raises:
        RecordError: there is none, or there are several.
    """
    named = WORDS[0] if argument is None else os.fspath(argument)
    if named in WORDS:
        return _aged(WORDS.index(named), root)
    path = root / named
    if path.is_dir():
        inside = path / FILE
        if found := [inside] if inside.is_file() else runs(path):
            return found[0]
        raise RecordError(f"{path}: the folder holds no {FILE}; name the folder of a run")
    return path if path.exists() else _called(named, root)


def _aged(age: int, root: Path) -> Path:
    found = runs(root)
    if age < len(found):
        return found[age]
    there = f"no {'second ' * bool(found)}run under {root / FOLDER}"
    raise RecordError(f"{there}; make one with `pytest conformance`, or name one")


def _called(name: str, root: Path) -> Path:
    there = {file.parent.name: file for file in runs(root)}
    begun = [name] if name in there else [each for each in there if each.startswith(name)]
    if len(begun) == 1:
        return there[begun[0]]
    if begun:
        raise RecordError(f"{name}: {len(begun)} runs begin so; name one: {', '.join(begun)}")
    said = f"{root / name}: no such file or folder, and no run of this name"
    raise RecordError(f"{said}; {instead(name, [*WORDS, *there])}")
