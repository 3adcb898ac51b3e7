"""A card tells one cause: what happens, the clause that it breaks, and what shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made import failure, run, verdict

from cnnformance.reports import (
    cards,
    cells,
    clause_views,
)
from cnnformance.reports.records import (
    Divergence,
    Subject,
    Verdict,
)
from cnnformance.spec.clauses import Authority, load
from cnnformance.spec.layers import (
    AveragePool,
    MaxPool,
)


def _card(*verdicts: Verdict, head: tuple[Subject, ...] = ()) -> cards.Card:
    made = run(*verdicts, head=head)
    found = [*cards.findings(made, load(), cells.Facets())]
    found += cards.recorded(made, load(), cells.Facets())
    (card,) = found
    return card


def test_a_card_names_the_clause_that_the_configuration_touches() -> None:
    layer = AveragePool((2,), padding=((1, 1),))
    shown = failure(layer, [[[6.0], [1.0]]], (0, 0, 0), expected="6.0", actual="3.0")
    asked = (
        "pipeline.pure",
        "pool.same.total",
        "pool.max.padding-never-wins",
        "pool.average.formula",
        "pool.average.excludes-padding",
        "pool.output-size-general",
    )
    card = _card(verdict("fail", layer="AveragePool", clauses=asked, failure=shown))
    assert card.title == "AveragePool: gives 3 where 6 is right, if padding != 0"
    assert card.clause
    assert card.clause.id == "pool.average.excludes-padding"
    assert card.clause.url.startswith("https://onnx.ai/")
    assert {c.id for c in card.other_clauses} == set(asked) - {card.clause.id}
    wrong = replace(shown, index=None, expected="(1, 3, 1)", actual="(1, 2, 1)", effect="shape")
    card = _card(verdict("fail", layer="AveragePool", clauses=asked, failure=wrong))
    assert card.clause
    assert card.clause.id == "pool.average.excludes-padding"
    assert not card.example.drawing


def test_a_divergence_has_its_class_versions_and_link() -> None:
    entry = Divergence(
        "torch.a", "documented", ("MaxPool",), ("value",), "True", (), ">=2", "It rounds.",
        "https://example.org/1", "2026-01-01",
    )  # fmt: skip
    shown = failure(MaxPool((2,)), np.zeros((1, 4, 1)), (0, 0, 0))
    met = [
        verdict("known", question=name, known=("torch.a",), failure=shown, message="torch.a: it is")
        for name in ("q1", "q2")
    ]
    card = _card(*met, head=(Subject("torch", "2.1", (entry,)),))
    assert (card.id, card.title, card.message) == (
        "divergence-torch-torch-a",
        "It rounds.",
        "it is",
    )
    assert {f.label: f.text for f in card.about} == {
        "recorded as": "torch.a",
        "class": "documented",
        "versions": ">=2",
        "first seen": "2026-01-01",
        "read more": "https://example.org/1",
    }
    assert card.questions == ("q1", "q2")
    assert card.example.drawing


@pytest.mark.parametrize(
    ("url", "leads"),
    [
        ("https://example.org/a?b=c#d", True),
        ("http://example.org", True),
        ("javascript:alert(1)", False),
        ("https://example.org/\n", False),
        ("data:text/html,x", False),
        ("//example.org", False),
        ("", False),
    ],
)
def test_only_addresses_of_the_web_are_links(url: str, leads: bool) -> None:
    assert clause_views.link(url) == (url if leads else "")
    spoilt = replace(load(), authorities={"a": Authority(name="A", version="1", url=url)})
    clause = replace(load().clauses["pool.max.formula"], authority="a")
    assert clause_views.cited(clause, spoilt.authorities) == ("A 1", url if leads else "")


def test_cards_of_one_place_have_ids_of_their_own() -> None:
    made = run(*(verdict("fail", question=f"q{n}", layer=f"x{'-' * n}") for n in range(3)))
    found = cards.findings(made, load(), cells.Facets())
    assert len({card.id for card in found}) == 3


def test_long_scripts_and_arrays_stay_in_the_record() -> None:
    layer, x = MaxPool((2,)), np.zeros((1, 400, 1))
    card = _card(verdict("fail", failure=failure(layer, x, (0, 0, 0), script="x" * 30_000)))
    assert card.example.script == "# 30,000 characters: see the record"
    assert card.example.folded[0].text == "float32[1, 400, 1], as in the script"
