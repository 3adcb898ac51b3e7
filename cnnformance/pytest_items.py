"""What pytest's items say of questions: the subject, the layer type, the clauses and the level."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cnnformance.pytest_options import LEVELS
from cnnformance.spec import clauses


def subject_id(subject: str) -> str:
    """Return a subject's name as it stands in the ids of pytest: in what it would not escape."""
    plain = (c.isascii() and c.isprintable() and c != "\\" for c in subject)
    return "".join(c if kept else f"&#{ord(c)};" for c, kept in zip(subject, plain, strict=True))


def subject_of(nodeid: str, subjects: Iterable[str]) -> str | None:
    """Return which subject the id of a test names first; None where it names none of them."""
    parameters = nodeid.partition("::")[2].partition("[")[2]
    ids = {subject_id(name): name for name in subjects}
    named = [i for i in ids if parameters.startswith((f"{i}-", f"{i}]"))]
    return ids[max(named, key=len)] if named else None


def clauses_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the ids of the clauses that a question checks."""
    return tuple(i for marker in item.iter_markers("clauses") for i in marker.args)


def level(item: pytest.Item) -> clauses.Level:
    """Return the level that comes first of those of the clauses that a question asks for."""
    known = clauses.load().clauses
    levels = {known[i].level for i in clauses_of(item) if i in known}
    for level in LEVELS:
        if level in levels:
            return level
    return "document"


def params(item: pytest.Item) -> dict[str, Any]:
    """Return the parameters of a test; an empty dict where it has none."""
    found: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return found


def question_id(item: pytest.Item, subject: str) -> str:
    """Return the test's id without the subject and without the folder."""
    place, _, name = item.nodeid.replace("\\", "/").partition("::")
    parameters: str = getattr(getattr(item, "callspec", None), "id", "")
    others = parameters.removeprefix(subject_id(subject)).removeprefix("-")
    name = name.removesuffix(f"[{parameters}]") + (f"[{others}]" if others else "")
    return f"{Path(place).name}::{name}"


def layer_type(item: pytest.Item) -> Any:
    """Return the layer type that a question is about, or its name; None where it is about several.

    It is the parameter ``layer_type`` of the test, or ``LAYER`` of its module.
    """
    return params(item).get("layer_type") or getattr(getattr(item, "module", None), "LAYER", None)
