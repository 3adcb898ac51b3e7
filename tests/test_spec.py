"""The data of the specification is whole and true, and its reading refuses what is malformed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import exact
import numpy as np
import pytest

from cnnformance.spec import clauses, layers
from cnnformance.spec.clauses import (
    AUTHORITIES,
    DOCUMENT,
    Count,
    Erratum,
    Example,
    FormulaClause,
    Law,
    Narrative,
    Trial,
    assemble,
    load,
    parse,
)
from cnnformance.spec.reading import DataError

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


def test_decimals_are_exact_and_signed_zero_keeps_its_sign() -> None:
    clause = SPEC.clauses["dense.example-1"]
    assert isinstance(clause, Example)
    assert clause.trials[0].output[0, 0] == Fraction(19, 10)
    (read,) = parse(clause_text("relu", input="[-0.0, nan]", output="[0, nan]"), "a.toml")
    assert isinstance(read, Example)
    assert math.copysign(1, read.trials[0].input[0, 0]) == -1
    assert read.trials[0].input.astype(np.float32).dtype == np.float32


def test_loading_twice_reads_once() -> None:
    assert load() is SPEC


def test_formula_of_a_clause_without_one_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        SPEC.formula("document.goals")


CLAUSES = {
    "relu": {"model": '[{ type = "ReLU" }]', "input": "[1, 2]", "output": "[1, 2]"},
    "pool": {
        "model": '[{ type = "MaxPool", window = [2, 2] }]',
        "input": "[[1, 2], [3, 4]]",
        "output": "[[4]]",
    },
    "dense": {
        "model": '[{ type = "Dense", in_features = 2, out_features = 1 }]',
        "weights": "[{ weight = [[1, 2]], bias = [3] }]",
        "input": "[1, 2]",
        "output": "[8]",
    },
    "formula": {"kind": '"formula"', "formula": '"N + 1"', "where": '{ N = "size" }'},
    "law": {"kind": '"law"', "law": '"pure"', "layers": '["MaxPool"]'},
    "count": {
        "kind": '"count"',
        "formula": '"N * M + M"',
        "bindings": "{ N = 2, M = 3 }",
        "value": "9",
        "model": '[{ type = "Dense", in_features = 2, out_features = 3 }]',
        "counts": '"parameters"',
    },
    "erratum": {
        "kind": '"erratum"',
        "holds": '"x"',
        "formula": '"N"',
        "instead": '"N + 1"',
        "bindings": "{ N = 2 }",
        "value": "3",
    },
    "narrative": {"kind": '"narrative"', "reason": '"a reason"'},
}


def clause_text(like: str, /, drop: str = "", **changes: str) -> str:
    """Return the text of a well-formed clause, but for some changes."""
    fields = {
        "id": '"a.b"',
        "section": '"S"',
        "says": '"Says."',
        "level": '"document"',
        "kind": '"example"',
        **CLAUSES[like],
        **changes,
    }
    return "[[clause]]\n" + "".join(f"{k} = {v}\n" for k, v in fields.items() if k != drop)


@pytest.mark.parametrize("like", CLAUSES)
def test_the_clauses_that_refusals_start_from_are_well_formed(like: str) -> None:
    (clause,) = parse(clause_text(like), "a.toml")
    assert clause.id == "a.b"


@dataclass(frozen=True)
class Bad:
    like: str
    changes: dict[str, str]
    key: str
    reason: str


BAD = [
    Bad("relu", {"colour": "1"}, "a.b.colour", "is unknown"),
    Bad("relu", {"file": '"a.toml"'}, "a.b.file", "is unknown"),
    Bad("relu", {"drop": "says"}, "a.b.says", "is missing"),
    Bad("relu", {"drop": "model"}, "a.b.model", "is missing"),
    Bad("relu", {"drop": "output"}, "a.b.output", "is missing"),
    Bad("relu", {"trial": "[{ input = [1], output = [1] }]"}, "a.b.input", "no place beside trial"),
    Bad("relu", {"drop": "input", "trial": "[{ input = [1] }]"}, "a.b.trial[0].output", "is miss"),
    Bad("relu", {"trial": "[{ input = [1], output = [1], x = 1 }]"}, "a.b.trial[0].x", "is unkn"),
    Bad("relu", {"drop": "id"}, "clause[0].id", "is missing"),
    Bad("relu", {"says": "1"}, "a.b.says", "needs a text, not 1"),
    Bad("relu", {"says": '""'}, "a.b.says", "is empty"),
    Bad("relu", {"level": '"law"'}, "a.b.level", "none of 'document'"),
    Bad("relu", {"level": '"semantics"'}, "a.b.authority", "is missing"),
    Bad("relu", {"kind": '"proof"'}, "a.b.kind", "none of 'example'"),
    Bad("relu", {"model": "[]"}, "a.b.model", "is empty"),
    Bad("relu", {"model": "[1]"}, "a.b.model[0]", "needs a layer"),
    Bad("relu", {"model": '[{ type = "Softmax" }]'}, "a.b.model[0]", "is unknown"),
    Bad("relu", {"model": '[{ type = "ReLU", slope = 1 }]'}, "a.b.model[0]", "no field slope"),
    Bad("relu", {"model": '[{ type = "MaxPool", window = [0] }]'}, "a.b.model[0]", "positive"),
    Bad("relu", {"model": '[{ type = "MaxPool", window = 2 }]'}, "a.b.model[0]", "window"),
    Bad("relu", {"input": '["1"]'}, "a.b.input", "is not a number"),
    Bad("relu", {"input": "[true]"}, "a.b.input", "is not a number"),
    Bad("relu", {"input": "[[1, 2], [3]]"}, "a.b.input", "ragged"),
    Bad("relu", {"input": "[[1, 2], 3]"}, "a.b.input", "ragged"),
    Bad("relu", {"input": "[1e999999999]"}, "a.b.input", "exponent"),
    Bad("relu", {"weights": "[{}]"}, "a.b.weights", "0 layers have weights"),
    Bad("pool", {"input": "[1, 2]"}, "a.b.input", "2 or 3 are needed"),
    Bad("pool", {"output": "4"}, "a.b.output", "2 or 3 are needed"),
    Bad("pool", {"batch": "1"}, "a.b.batch", "needs true or false"),
    Bad("dense", {"drop": "weights"}, "a.b.weights", "1 layers have weights"),
    Bad("dense", {"weights": "[1]"}, "a.b.weights[0]", "needs a table"),
    Bad("dense", {"weights": "[{ weight = [[1, 2]] }]"}, "a.b.weights[0].bias", "is missing"),
    Bad(
        "dense",
        {"weights": "[{ weight = [[1, 2, 3]], bias = [3] }]"},
        "a.b.weights[0].weight",
        "(1, 2) is needed",
    ),
    Bad(
        "dense",
        {"weights": "[{ weight = [[1, 2]], bias = [3], scale = 1 }]"},
        "a.b.weights[0].scale",
        "is unknown",
    ),
    Bad("formula", {"formula": '"N +"'}, "a.b.formula", "not an expression"),
    Bad("formula", {"formula": '"__import__(N)"'}, "a.b.formula", "not allowed"),
    Bad("formula", {"where": "{}"}, "a.b.where", "explains []"),
    Bad("formula", {"where": '{ N = "size", M = "x" }'}, "a.b.where", "formula has ['N']"),
    Bad("formula", {"where": "{ N = 1 }"}, "a.b.where.N", "needs a text, not 1"),
    Bad("law", {"law": '"Not a word"'}, "a.b.law", "lower-case"),
    Bad("law", {"layers": "[]"}, "a.b.layers", "is empty"),
    Bad("law", {"layers": "[1]"}, "a.b.layers[0]", "needs a text, not 1"),
    Bad("law", {"layers": '["Softmax"]'}, "a.b.layers[0]", "no layer type"),
    Bad("law", {"refusal": "[{ shape = [1] }]"}, "a.b.refusal[0].layer", "is missing"),
    Bad("count", {"value": "true"}, "a.b.value", "is not a number"),
    Bad("count", {"value": "[9]"}, "a.b.value", "needs one number, and a finite one"),
    Bad("count", {"bindings": "{ N = 2 }"}, "a.b.bindings", "formula has ['M', 'N']"),
    Bad("count", {"counts": '"weights"'}, "a.b.counts", "none of 'parameters'"),
    Bad("count", {"counts": '"size"'}, "a.b.shape", "is missing"),
    Bad("count", {"drop": "counts"}, "a.b.counts", "is missing"),
    Bad("count", {"shape": "[1]"}, "a.b.shape", "has no place beside parameters"),
    Bad("count", {"drop": "model"}, "a.b.counts", "has no place without a model"),
    Bad("erratum", {"drop": "holds"}, "a.b.holds", "is missing"),
    Bad("erratum", {"drop": "value"}, "a.b.value", "is missing"),
    Bad("erratum", {"input": "[1]"}, "a.b.input", "has no place without a model"),
    Bad("erratum", {"model": '[{ type = "ReLU" }]'}, "a.b.formula", "has no place beside a model"),
    Bad("erratum", {"trial": "[{ input = [1], output = [1] }]"}, "a.b.trial", "without a model"),
    Bad("erratum", {"drop": "formula"}, "a.b.model", "no counterexample"),
    Bad("erratum", {"instead": '"M"'}, "a.b.instead", "other names"),
    Bad("narrative", {"drop": "reason"}, "a.b.reason", "is missing"),
    Bad("relu", {"model": f'[{{ type = "MaxPool", window = [{10**3999}] }}]'},
        "a.b.model[0].window[0]", "give a smaller"),
    Bad("relu", {"input": f"[{-(2**53) - 1}]"}, "a.b.input[0]", "beyond 9,007,199,254,740,992"),
    Bad("relu", {"input": "[" * 40 + "1" + "]" * 40}, "a.b.input", "is nested deeper"),
    Bad("relu", {"says": "[" * 200 + "1" + "]" * 200}, "a.b.says", "is nested deeper"),
    Bad("count", {"bindings": f"{{ M = {10**3999}, N = 2 }}"}, "a.b.bindings.M", "give a smaller"),
    Bad("count", {"value": "nan"}, "a.b.value", "a finite one"),
    Bad("count", {"formula": '"M * N * 9**9**9"'}, "a.b.formula", "exponent"),
    Bad("count", {"formula": '"M / (N - N)"'}, "a.b.formula", "division by zero"),
    Bad("erratum", {"formula": '"M**9**9"', "instead": '"M"', "bindings": "{ M = 2 }"},
        "a.b.formula", "exponent"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda b: f"{b.like}-{b.key}-{b.reason}")
def test_a_malformed_clause_is_refused_with_file_key_and_reason(bad: Bad) -> None:
    with pytest.raises(DataError) as caught:
        parse(clause_text(bad.like, **bad.changes), "a.toml")
    assert str(caught.value).startswith(f"a.toml: {bad.key}: ")
    assert bad.reason in str(caught.value)


@pytest.mark.parametrize("key", ["input", "model", "level"])
@pytest.mark.parametrize("value", [
    f"{10**3999}", f"'{'x' * 10**4}'", "[" * 300 + "]" * 300, "0x" + "f" * 3000, "1e-99999999",
])  # fmt: skip
def test_a_refusal_of_what_is_large_is_one_short_line(key: str, value: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(clause_text("relu", **{key: value}), "a.toml")
    assert str(caught.value).startswith(f"a.toml: a.b.{key}")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("like", "key", "value", "said"),
    [
        ("relu", "x" * 10**4, "1", "is unknown"),
        ("relu", '"\\u001b[2J\\u202e\\n"', "1", "is unknown"),
        ("relu", "level", '"\\u001b[2J\\u202e\\n"', "none of"),
        (
            "relu",
            "model",
            f'[{{ type = "MaxPool", window = [{"1, " * 9999}] }}]',
            "1, 2 or 3 sizes",
        ),
        ("relu", "model", f'[{{ type = "{"x" * 10**4}" }}]', "is unknown; known are MaxPool"),
        ("relu", "model", "[{ type = [1] }]", "[1] is unknown"),
        ("relu", "model", f'[{{ type = "ReLU", {"x" * 10**4} = 1 }}]', "ReLU has no field"),
        ("law", "law", f'"{"x" * 10**4}!"', "joined by hyphens"),
        ("law", "layers", f'["{"x" * 10**4}"]', "no layer type"),
        ("formula", "formula", f'"{"x" * 10**4}"', "longer than 200 characters"),
        ("formula", "where", f'{{ {"x" * 10**4} = "size" }}', "and the formula has ['N']"),
        ("count", "bindings", f"{{ {'x' * 10**4} = 1 }}", "and the formula has ['M', 'N']"),
    ],
)
def test_a_refusal_of_what_is_long_or_not_seen_is_one_short_line(
    like: str, key: str, value: str, said: str
) -> None:
    with pytest.raises(DataError) as caught:
        parse(clause_text(like, **{key: value}), "a.toml")
    message = str(caught.value)
    assert said in message
    assert len(message) < 400
    assert message.isprintable()


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(DataError, match=r"a\.toml: syntax: .*line 1"):
        parse("id = = 1", "a.toml")
    with pytest.raises(DataError, match=r"a\.toml: syntax: .*exponent that is too large"):
        parse(clause_text("relu", input="1e99999999999999999999"), "a.toml")
    with pytest.raises(DataError, match=r"a\.toml: syntax: "):
        parse(clause_text("relu", input="1" * 5000), "a.toml")


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(DataError, match=r"a\.toml: clauses: is unknown"):
        parse(clause_text("relu") + "[clauses]\n", "a.toml")
    with pytest.raises(DataError, match=r"a\.toml: clause: needs a list, not one that is too long"):
        parse(f"clause = 0x{'f' * 5000}", "a.toml")
    with pytest.raises(DataError, match=r"a\.toml: clause\[1\]: needs a table, not '\{x\}'"):
        parse("clause = [{}, '{x}']", "a.toml")
    with pytest.raises(DataError, match=r"a\.toml: clause\[0\]\.kind: is missing"):
        parse("clause = [{}]", "a.toml")


SMALL = {
    DOCUMENT: 'files = ["a.toml"]\n[[section]]\nheading = "S"\ndepth = 1\nclauses = ["a.b"]\n',
    AUTHORITIES: "",
    "a.toml": clause_text("relu"),
}


def test_a_small_specification_is_whole() -> None:
    assert list(assemble(SMALL).clauses) == ["a.b"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (DOCUMENT, '["a.b"]', '["a.b", "a.c"]', r"document\.toml: S: .*'a\.c'"),
        (DOCUMENT, '["a.b"]', "[]", r"a\.toml: a\.b\.section: .*does not list"),
        (DOCUMENT, '"S"', '"T"', r"a\.toml: a\.b\.section: 'S' is no heading"),
        (DOCUMENT, "depth = 1", "", r"document\.toml: section\[0\]\.depth: is missing"),
        (
            DOCUMENT,
            "depth = 1",
            "depth = true",
            r"document\.toml: section\[0\]\.depth: needs an integer, not True",
        ),
        (DOCUMENT, '"a.toml"', '"b.toml"', r"document\.toml: files: b\.toml is missing"),
        (DOCUMENT, '"a.toml"', '"a.toml", "a.toml"', r"a\.toml: a\.b: is also in a\.toml"),
        ("a.toml", '"document"', '"document"\nauthority = "X"', r"a\.toml: a\.b\.authority: 'X'"),
        (AUTHORITIES, "", "[X]\nname = 'n'\nversion = '1'\n", r"authorities\.toml: X\.url: is mis"),
        (AUTHORITIES, "", "X = 1", r"authorities\.toml: X: needs a table, not 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(file: str, old: str, new: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        assemble(SMALL | {file: SMALL[file].replace(old, new, 1)})


@pytest.mark.parametrize("file", [DOCUMENT, AUTHORITIES])
def test_a_missing_file_is_refused(file: str) -> None:
    with pytest.raises(DataError, match=f"{file}: file: is missing"):
        assemble({name: text for name, text in SMALL.items() if name != file})


def test_formulas_explain_their_names() -> None:
    for clause in SPEC.of(FormulaClause):
        assert clause.where.keys() == clause.formula.names
