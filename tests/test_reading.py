"""The reading of the specification's files refuses what is malformed, with file, key and reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from cnnformance.spec.clauses import AUTHORITIES, DOCUMENT, Example, assemble, load, parse
from cnnformance.spec.reading import DataError

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
    "claim": {
        "kind": '"claim"',
        "order": '["a: b < a: c < 0.5"]',
        "holds": "true",
        "finds": '"It is so."',
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
    Bad("claim", {"drop": "finds"}, "a.b.finds", "is missing"),
    Bad("claim", {"order": "[]"}, "a.b.order", "is empty"),
    Bad("claim", {"order": "[1]"}, "a.b.order[0]", "needs a text, not 1"),
    Bad("claim", {"order": '["a: b"]'}, "a.b.order[0]", "no order of two"),
    Bad("claim", {"order": '["a: b < c"]'}, "a.b.order[0]", "no figure"),
    Bad("claim", {"order": '["a: b < 1 < "]'}, "a.b.order[0]", "no figure"),
    Bad("claim", {"order": '["1 < 2"]'}, "a.b.order[0]", "is no figure in"),
    Bad("claim", {"holds": "1"}, "a.b.holds", "needs true or false"),
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


def test_decimals_are_exact_and_signed_zero_keeps_its_sign() -> None:
    clause = load().clauses["dense.example-1"]
    assert isinstance(clause, Example)
    assert clause.trials[0].output[0, 0] == Fraction(19, 10)
    (read,) = parse(clause_text("relu", input="[-0.0, nan]", output="[0, nan]"), "a.toml")
    assert isinstance(read, Example)
    assert math.copysign(1, read.trials[0].input[0, 0]) == -1
    assert read.trials[0].input.astype(np.float32).dtype == np.float32
