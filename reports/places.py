"""Where runs lie: the files of records, found by name, by folder or by age."""

from __future__ import annotations

import os
from pathlib import Path

FILE = "verdicts.jsonl"
FOLDER = ".cnnformance"


class RecordError(ValueError):
    """A run that cannot be found or read; one line with file, line number and remedy."""


def is_record(path: Path) -> bool:
    """Whether a file is empty, or begins as a record of verdicts does."""
    with path.open("rb") as file:
        begin = file.read(2)
        return not begin or (begin == b'{"' and b'"record"' in begin + file.read(1 << 16))


def _newest(folder: Path) -> Path | None:
    found = [p for p in folder.glob(f"{FOLDER}/*/{FILE}") if p.is_file()]
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p.parent.name), default=None)


def resolve(argument: str | os.PathLike[str] | None, root: Path) -> Path:
    """Return the file of verdicts that an argument names.

    Args:
        argument: a file, a folder that holds ``verdicts.jsonl``, a folder in which runs were
            made, or None for the newest run made in ``root``.
        root: the folder that relative names start from.

    Raises:
        RecordError: there is none.
    """
    if argument is None:
        if newest := _newest(root):
            return newest
        raise RecordError(
            f"no run under {root / FOLDER}; make one with `pytest conformance`, or name one"
        )
    path = root / argument
    if path.is_dir():
        inside = path / FILE
        if found := inside if inside.is_file() else _newest(path):
            return found
        raise RecordError(f"{path}: the folder holds no {FILE}; name the folder of a run")
    if not path.exists():
        raise RecordError(f"{path}: no such file or folder; name a {FILE} or its folder")
    return path
