"""The data of the specification is whole and true."""

from __future__ import annotations

import math
from pathlib import Path

import exact
import pytest

from cnnformance.spec import clauses, layers
from cnnformance.spec.clauses import (
    Count,
    Erratum,
    Example,
    FormulaClause,
    Law,
    Narrative,
    Trial,
    load,
)

SPEC = load()
TEXTS = {
    f.name: f.read_text(encoding="utf-8") for f in Path(clauses.__file__).parent.glob("*.toml")
}


def equal(actual: exact.Array, expected: exact.Array) -> bool:
    return actual.shape == expected.shape and all(
        a == e or (math.isnan(a) and math.isnan(e))
        for a, e in zip(actual.flat, expected.flat, strict=True)
    )


def holds(trial: Trial) -> bool:
    return equal(exact.run(trial.model, trial.input, trial.weights), trial.output)


@pytest.mark.parametrize("clause", SPEC.of(Example), ids=lambda c: c.id)
def test_examples_are_true(clause: Example) -> None:
    assert all(map(holds, clause.trials))


def test_an_example_with_a_wrong_output_is_found() -> None:
    for clause in SPEC.of(Example):
        for trial in clause.trials:
            index = (0,) * trial.output.ndim
            wrong = trial.output.copy()
            wrong[index] = wrong[index] + 1 if math.isfinite(wrong[index]) else 0
            model, weights, x = trial.model, trial.weights, trial.input
            assert not holds(Trial(model=model, weights=weights, input=x, output=wrong)), clause.id


@pytest.mark.parametrize("clause", SPEC.of(Count), ids=lambda c: c.id)
def test_counts_follow_from_their_formula_and_from_the_model(clause: Count) -> None:
    assert clause.formula(**clause.bindings) == clause.value
    if clause.counts == "parameters":
        assert sum(map(exact.parameter_count, clause.model)) == clause.value
    elif clause.counts:
        shape: layers.Shape = (1, *clause.shape)
        for layer in clause.model:
            shape = exact.output_shape(layer, shape)
        counted = shape[1] if clause.counts == "size" else math.prod(shape)
        assert counted == clause.value


@pytest.mark.parametrize("clause", SPEC.of(Erratum), ids=lambda c: c.id)
def test_errata_carry_a_counterexample(clause: Erratum) -> None:
    if clause.formula is None:
        assert clause.trials
        assert all(map(holds, clause.trials))
    else:
        assert clause.instead is not None
        assert clause.formula(**clause.bindings) != clause.value
        assert clause.instead(**clause.bindings) == clause.value


def test_linear_erratum_shows_additivity() -> None:
    clause = SPEC.clauses["pool.average.linear"]
    assert isinstance(clause, Erratum)
    first, second, both = clause.trials
    assert equal(first.input + second.input, both.input)
    assert equal(first.output + second.output, both.output)


def test_border_reads_count_the_windows() -> None:
    reads = SPEC.formula("conv.border-reads")
    for size in range(1, 9):
        for kernel in range(1, size + 1):
            windows = [range(start, start + kernel) for start in range(size - kernel + 1)]
            for cell in range(size):
                assert reads(i=cell, H=size, K=kernel) == sum(cell in w for w in windows)


def test_refusals_are_refused_by_the_types_or_by_the_shape() -> None:
    refusals = [(law, r) for law in SPEC.of(Law) for r in law.refusals]
    assert refusals
    for law, refusal in refusals:
        assert type(refusal.layer).__name__ in law.layers
        with pytest.raises((layers.LayerError, exact.ExactError)):
            exact.output_shape(layers.from_json(layers.to_json(refusal.layer)), refusal.shape)


def test_narratives_give_a_reason_and_cite_clauses_that_exist() -> None:
    for clause in SPEC.of(Narrative):
        assert len(clause.reason.split()) >= 2
        words = (word.strip(".,;:") for word in clause.reason.split())
        cited = [w for w in words if "." in w]
        assert all(w in SPEC.clauses for w in cited), clause.id


def test_every_file_of_clauses_is_listed_and_every_layer_type_has_one() -> None:
    files = {clause.file for clause in SPEC.clauses.values()}
    assert files >= {
        "".join("_" * (c.isupper() and i > 0) + c.lower() for i, c in enumerate(name)) + ".toml"
        for name in layers.TYPES
        if name != "ReLU"
    }
    assert "relu.toml" in files
    with_clauses = {name for name, text in TEXTS.items() if "[[clause]]" in text}
    assert files == with_clauses


def test_every_section_is_mapped() -> None:
    assert len(SPEC.sections) == 53
    assert all(section.clauses for section in SPEC.sections)
    assert [s.heading for s in SPEC.sections if s.depth == 1] == [
        "Day 21: CNN Layers",
        "CNN Layer Pipeline",
        "Pooling in CNNs",
        "Types of Pooling",
        "If We Want Smaller Spatial Size, Why Not Just Avoid Padding?",
        "Flatten Layer",
        "Fully Connected (Dense) Layers",
        "Division of Responsibility",
        "Key Takeaways from Day 21",
    ]


def test_sections_hold_only_what_the_document_says() -> None:
    mapped = {name for section in SPEC.sections for name in section.clauses}
    document = {c.id for c in SPEC.clauses.values() if c.level == "document"}
    assert mapped == document


def test_every_layer_type_has_laws_and_a_gradient() -> None:
    for name in layers.TYPES:
        laws = [law for law in SPEC.of(Law) if name in law.layers]
        assert any(law.level == "gradient" for law in laws), name


def test_every_authority_is_followed() -> None:
    assert {c.authority for c in SPEC.clauses.values()} - {""} == SPEC.authorities.keys()


def test_ids_are_stable_words() -> None:
    for name in SPEC.clauses:
        assert name.count(".") >= 1
        assert name.replace(".", "").replace("-", "").isalnum()
        assert name == name.lower()


def test_no_statement_uses_a_modal_verb_of_wish() -> None:
    assert not [c.id for c in SPEC.of(Law) if {"should", "must"} & set(c.says.split())]


def test_loading_twice_reads_once() -> None:
    assert load() is SPEC


def test_formula_of_a_clause_without_one_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        SPEC.formula("document.goals")


def test_formulas_explain_their_names() -> None:
    for clause in SPEC.of(FormulaClause):
        assert clause.where.keys() == clause.formula.names
