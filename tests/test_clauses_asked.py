"""Every clause that can be checked is asked by at least one question; a question names its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnformance.spec import clauses

ROOT = Path(__file__).resolve().parents[1]


class Collected:
    """The clauses that each collected question names."""

    def __init__(self) -> None:
        self.ids: dict[str, set[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            markers = item.iter_markers("clauses")
            self.ids[item.nodeid] = {i for marker in markers for i in marker.args}


def test_every_clause_is_asked() -> None:
    collected = Collected()
    arguments = [str(ROOT / "conformance"), "--backend", "numpy", "--collect-only", "-q"]
    pytest.main([*arguments, "-p", "no:cacheprovider"], plugins=[collected])
    known = clauses.load().clauses
    checkable = {i for i, c in known.items() if not isinstance(c, clauses.Narrative)}

    named = set().union(*collected.ids.values())
    assert named - known.keys() == set()
    assert sorted(checkable - named) == []
    assert [question for question, ids in collected.ids.items() if not ids] == []
