"""Every clause that can be checked is asked by at least one question, and no other is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnformance.spec import clauses

ROOT = Path(__file__).resolve().parents[1]


class Collected:
    """The clauses that the collected questions name."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self.ids.update(i for marker in item.iter_markers("clauses") for i in marker.args)


def test_every_clause_is_asked() -> None:
    collected = Collected()
    arguments = [str(ROOT / "conformance"), "--backend", "numpy", "--collect-only", "-q"]
    pytest.main([*arguments, "-p", "no:cacheprovider"], plugins=[collected])
    known = clauses.load().clauses
    checkable = {i for i, c in known.items() if not isinstance(c, clauses.Narrative)}

    assert collected.ids - known.keys() == set()
    assert sorted(checkable - collected.ids) == []
