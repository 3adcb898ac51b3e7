"""What reports show is what the records and the specification say."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from made import failure, run, verdict

from cnnformance.reports import (
    cells,
    declined,
    overview,
    published,
    render,
    statements,
    strips,
    topics,
)
from cnnformance.reports.records import (
    Divergence,
    Subject,
    Trait,
    VerdictName,
)
from cnnformance.spec import networks
from cnnformance.spec.clauses import Narrative, load
from cnnformance.spec.layers import (
    TYPES,
    MaxPool,
)

# --- the matrix --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fallen", "state"),
    [
        ((), "not-asked"),
        (("unsupported", "unsupported"), "not-offered"),
        (("unsupported", "pass"), "asked"),
        (("not-run",), "not-run"),
        (("not-run", "unsupported"), "not-run"),
        (("not-run", "crash"), "asked"),
    ],
)
def test_no_answer_is_of_four_kinds(fallen: tuple[VerdictName, ...], state: str) -> None:
    assert cells.state([verdict(name) for name in fallen]) == state


def test_bars_are_full_and_facets_count_every_verdict() -> None:
    made = [verdict(name, level=level) for name in ("pass", "fail") for level in ("a", "b", "b")]
    parts = cells.bar(made)
    assert [(p.verdict, p.count, p.start, p.width) for p in parts] == [
        ("pass", 3, 0, 50),
        ("fail", 3, 50, 50),
    ]
    facets = cells.Facets()
    pairs = [pair.split("*") for pair in facets.packed(made).split()]
    counted = {facets.known[int(number)]: int(times) for number, times in pairs}
    assert counted == {
        ("a", "float32", "pass", ""): 1,
        ("b", "float32", "pass", ""): 2,
        ("a", "float32", "fail", ""): 1,
        ("b", "float32", "fail", ""): 2,
    }


def test_a_layer_opens_to_its_own_clauses_first() -> None:
    asked = ("pipeline.pure", "pool.smaller", "no.such.clause", "pool.max.formula")
    (row,) = cells.rows(run(verdict(clauses=asked)), load().clauses, cells.Facets())
    assert [c.id for c in row.clauses] == [
        "pool.max.formula",
        "no.such.clause",
        "pool.smaller",
        "pipeline.pure",
    ]


def test_the_sentence_on_a_subject_counts_what_matters() -> None:
    made = run(
        verdict("fail", failure=failure(MaxPool((2,)), np.zeros((1, 4, 1)), (0, 0, 0))),
        verdict("known", question="q2", known=("torch.a", "torch.b")),
        verdict("unsupported", question="q3", layer="Dense"),
        verdict("not-run", question="q4"),
        verdict(subject="jax"),
        head=(Subject("torch"), Subject("jax", "0.9"), Subject("numpy")),
    )
    told = [(s.name, s.version, s.sentence) for s in overview.subjects(made)]
    assert told == [
        (
            "torch",
            "",
            (
                "1 open fault, 2 recorded divergences met again, 1 layer not offered, "
                "1 question not run."
            ),
        ),
        ("jax", "0.9", "No open fault."),
        ("numpy", "", "Nothing was recorded."),
    ]


# --- reasons, choices, precision ---------------------------------------------------------------


def test_reasons_that_differ_in_layer_dtype_or_fields_are_one() -> None:
    made = [
        verdict("unsupported", question=f"{layer}{n}", layer=layer, dtype=dtype, message=said)
        for layer in ("MaxPool", "GlobalMaxPool")
        for n, (dtype, said) in enumerate(
            [
                ("int8", f"{layer} does not take int8"),
                ("int16", f"{layer} does not take int16"),
                (None, f"there is no {layer}(window=((1, 2),), f(x))"),
            ]
        )
    ]
    other = verdict("unsupported", question="q1", message="there is GlobalMaxPool")
    found = declined.reasons(run(verdict(), *made, other, verdict("not-run", question="q")))
    assert [(r.verdict, r.text, r.questions, r.layers, r.dtypes) for r in found] == [
        ("not-run", "no reason is recorded", 1, ("MaxPool",), ("float32",)),
        (
            "unsupported",
            "<layer> does not take <dtype>",
            4,
            ("MaxPool", "GlobalMaxPool"),
            ("int16", "int8"),
        ),
        ("unsupported", "there is no <layer>(...)", 2, ("MaxPool", "GlobalMaxPool"), ()),
        ("unsupported", "there is GlobalMaxPool", 1, ("MaxPool",), ("float32",)),
    ]


@pytest.mark.parametrize("form", sorted(render.FORMATS))
def test_every_format_says_why_there_is_no_answer(form: str) -> None:
    made = run(verdict("unsupported", message="the moon is not full"))
    assert "the moon is not full" in render.render(made, form)


def test_the_terminal_shows_what_tells_something() -> None:
    """Clauses that all pass, and traits that all share, are for the whole report."""
    made = run(
        verdict(clauses=("pool.smaller",)),
        verdict("unsupported", question="q2", clauses=("dense.count",)),
        verdict(subject="jax", question="q2", clauses=("dense.count",)),
        traits=(
            Trait("torch", "shared", "a", {}),
            Trait("jax", "shared", "a", {}),
            Trait("torch", "parted", "a", {}),
            Trait("jax", "parted", "b", {}),
            Trait("torch", "torn", "a", {"rank": 1}),
            Trait("torch", "torn", "b", {"rank": 2}),
        ),
    )
    short, whole = render.render(made, "table"), render.render(made, "markdown")
    for told in ("dense.count", "parted", "torn"):
        assert told in short
        assert told in whole
    for rest in ("pool.smaller", "shared"):
        assert rest not in short
        assert rest in whole


def test_choices_that_differ_come_first_and_equal_ones_are_joined() -> None:
    def measured(subject: str, trait: str, value: str, **where: Any) -> Trait:
        return Trait(subject, trait, value, where, f"shown to {subject}")

    made = run(
        traits=(
            measured("torch", "sign of zero in MaxPool of float32", "kept"),
            measured("torch", "sign of zero in MaxPool of float64", "kept"),
            measured("torch", "sign of zero in ReLU of float32", "kept"),
            measured("jax", "sign of zero in MaxPool of float32", "kept"),
            measured("jax", "sign of zero in MaxPool of float64", "kept"),
            measured("jax", "sign of zero in ReLU of float32", "lost"),
            measured("torch", "a trait", "one", at="there"),
            measured("torch", "a trait", "two", at="here"),
        )
    )
    zero, alone = topics.topics(made)
    assert (zero.name, zero.differs) == ("sign of zero", True)
    assert [(row.about, row.differs) for row in zero.rows] == [
        (("ReLU, float32",), True),
        (("MaxPool, float32", "MaxPool, float64"), False),
    ]
    assert (alone.name, alone.differs) == ("a trait", False)
    torch, jax = alone.rows[0].answers
    assert [(a.value, a.where) for a in torch] == [("one", "there"), ("two", "here")]
    assert jax == ()
    text = render.render(made, "html")
    assert text.count("<em>inconsistent</em>") == 1
    assert "INCONSISTENT" not in text


def test_strips_mark_what_was_used_of_the_bound() -> None:
    made = run(
        verdict(share=0.01, grade="float32"),
        verdict(question="q2", share=0.0),
        verdict("fail", question="q3", share=math.inf),
        verdict("fail", question="q5", share=10.0),
        verdict(question="q4", layer="ReLU", share=0.0),
    )
    (row,) = strips.rows(made)
    (strip,) = row.strips
    assert strip
    assert (row.layer, row.dtype, strip.exact, strip.grade) == ("MaxPool", "float32", 1, "float32")
    assert strip.marks == f"M{2 * strips.STEP} 2v10"
    assert strip.beyond == f"M{5 * strips.STEP} 2v10M{strips.WIDTH - 1} 2v10"
    assert strips.graded(made) == (("ReLU", "float32", ("exact",)),)


# --- the document and the networks -------------------------------------------------------------


def test_every_statement_is_told_once_and_every_clause_has_its_place() -> None:
    made = run(verdict(clauses=("pool.max.formula", "no.such.clause")))
    told = statements.sections(made, load())
    assert [s.heading for s in told[:-1]] == [s.heading for s in load().sections]
    first = [c.id for section in told for c in section.statements if c.first]
    assert sorted(first) == sorted({*load().clauses, "no.such.clause"})
    by_id = {c.id: c for section in told for c in section.statements if c.first}
    assert [t.subject for t in by_id["pool.max.formula"].tallies] == ["torch"]
    for name, clause in load().clauses.items():
        if isinstance(clause, Narrative):
            assert by_id[name].reason == clause.reason
        if clause.kind == "erratum":
            assert by_id[name].holds
            assert by_id[name].counterexample
    shown = by_id["pool.average.linear"].counterexample
    assert "of [[1, 3], [4, 6]] is 3.5" in re.sub(r"\s+", " ", shown)


def test_networks_have_the_verdicts_of_their_questions() -> None:
    made = run(
        verdict(question="test_parameters.py::test_network_shapes[lenet5]"),
        verdict("fail", question="a.py::test_network_parameters[lenet5]", message="6 too many"),
        verdict(question="test_parameters.py::test_network_shapes[no such network]"),
        verdict(question="test_parameters.py::test_count[lenet5]"),
    )
    (lenet,) = published.networks(made, networks.load())
    plain = [
        each.replace("\N{MULTIPLICATION SIGN}", "x")
        for each in (lenet.input, *(s.shape for s in lenet.steps))
    ]
    assert (lenet.name, lenet.parameters) == ("lenet5", "61,706")
    assert plain[:3] == ["32 x 32 x 1", "28 x 28 x 6", "14 x 14 x 6"]
    ((counted, shaped),) = lenet.checked
    assert (counted.what, counted.verdict, counted.message) == ("parameters", "fail", "6 too many")
    assert (shaped.what, shaped.verdict) == ("shapes", "pass")


def test_the_page_of_sixteen_subjects_is_below_3_megabytes() -> None:
    """With as many layers, clauses and cards as a real run has."""
    clauses = list(load().clauses)
    shown = failure(
        MaxPool((2, 2)), np.ones((1, 8, 8, 1)), (0, 0, 0, 0), script="x" * 1000, detail="x" * 9000
    )
    made = [
        verdict(subject=f"subject{n}", layer=layer, question=f"{layer}{m}", clauses=(clause,))
        for n in range(16)
        for layer in TYPES
        for m, clause in enumerate(clauses[:44])
    ]
    made += [
        verdict(subject=f"subject{n}", question=clause, clauses=(clause,))
        for n in range(16)
        for clause in clauses
    ]
    made += [
        verdict("known", subject=f"subject{n}", question=f"k{m}", known=(f"{m}",), failure=shown)
        for n in range(16)
        for m in range(12)
    ]
    assert len(render.render(run(*made), "html").encode()) < 3_000_000


# --- every format ------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>|<img src=x>`*[a](javascript:b)"


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_markup_of_a_record_stays_text(form: str) -> None:
    shown = failure(
        MaxPool((2,)), np.zeros((1, 4, 1)), (0, 0, 0), expected=EVIL, actual=EVIL, detail=EVIL,
        script=EVIL, bound=EVIL, message=EVIL,
    )  # fmt: skip
    entry = Divergence(EVIL, "open", (EVIL,), (), EVIL, (EVIL,), EVIL, EVIL, EVIL, EVIL)
    fields = dict.fromkeys(("subject", "layer", "level", "dtype", "composed", "message"), EVIL)
    made = run(
        verdict("fail", failure=shown, clauses=(EVIL,), **fields),
        verdict("known", question=EVIL, known=(EVIL,), **fields),
        verdict("unsupported", question="q3", **fields),
        traits=(
            Trait(EVIL, EVIL, EVIL, {EVIL: EVIL}, EVIL),
            Trait(EVIL, EVIL, "b", {}, EVIL),
            Trait(EVIL, f"{EVIL}: {EVIL}", EVIL, {}, EVIL, EVIL),
            Trait(EVIL, "shift: max pooling", EVIL, {}, EVIL, EVIL),
        ),
        head=(Subject(EVIL, EVIL, (entry,)),),
    )
    text = render.render(made, form)
    if form == "markdown":
        text = re.sub(r"(?ms)^(`{3,})$.*?^\1$", "", text)
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text) or form == "html"
    assert 'href="javascript' not in text
