"""Records survive writing and reading, and reports say what the records say."""

from __future__ import annotations

import base64
import json
import math
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import ml_dtypes
import numpy as np
import pytest
from made import write

from cnnformance.reports import (
    arrays,
    brief,
    causes,
    credentials,
    diff,
    divergences,
    formats,
    matrix,
    page,
    records,
    render,
    summary,
    tables,
)
from cnnformance.reports.clause_views import NONE
from cnnformance.reports.printable import cleaned, printable
from cnnformance.reports.records import (
    Array,
    Divergence,
    Failure,
    Footer,
    Header,
    Run,
    Subject,
    Trait,
    Verdict,
    VerdictName,
)
from cnnformance.spec.layers import Conv, Dense, Layer, MaxPool, to_json

SCRIPT = "import torch\nprint('<b>' & \"```\")  # https://example.org/?a=1&b=2"


def header(*subjects: str, planned: int = 2) -> Header:
    named = tuple(Subject(name, "1.0") for name in subjects or ("torch",))
    versions = ("0.1.0", "3.11.7", "2.4.6", "Linux")
    return Header("2026-01-02T03:04:05Z", *versions, "default", 0, planned, named)


def verdict(name: VerdictName = "pass", **changes: Any) -> Verdict:
    plain = Verdict(
        subject="torch",
        question="test_max_pool.py::test_output[float32]",
        layer="MaxPool",
        clauses=("pool.max.formula",),
        level="document",
        dtype="float32",
        verdict=name,
        examples=37,
        seconds=0.5,
        share=0.25,
    )
    return replace(plain, **changes)


def failure(layer: Layer | None = None, **changes: Any) -> Failure:
    layer = layer or MaxPool((2, 2))
    rank = layer.rank if isinstance(layer, MaxPool) else 2
    case = {
        "layers": [to_json(layer)],
        "shape": [1, *[4] * rank, 1],
        "dtype": "float32",
        "regimes": ["integer"],
        "seed": 0,
        "memory": "contiguous",
    }
    plain = Failure(
        effect="value",
        case=case,
        arrays={"x": arrays.pack(np.array([[1.5, math.nan]], np.float32))},
        index=(0, 1, 1, 0),
        expected="6.0",
        actual="5.0",
        bound="1.2e-07",
        share=math.inf,
        alone=True,
        detail="Traceback: <tensor> | `x`",
        script=SCRIPT,
    )
    return replace(plain, **changes)


def failed(layer: Layer | None = None, **changes: Any) -> Verdict:
    made = failure(layer, effect=changes.pop("effect", "value"))
    return verdict(changes.pop("name", "fail"), failure=made, **changes)


def trait(value: str, subject: str = "torch", **where: Any) -> Trait:
    return Trait(subject, "max_pool.nan", value, where, "max pool of [nan, 1]")


def run(
    *verdicts: Verdict,
    head: Header | None = None,
    traits: Sequence[Trait] = (),
    ended: bool = True,
) -> Run:
    names = dict.fromkeys(v.subject for v in verdicts)
    head = head or header(*names, planned=len({(v.subject, v.question) for v in verdicts}))
    footer = Footer("2026-01-02T03:05:05Z", 71.3, len(verdicts)) if ended else None
    return Run(Path("verdicts.jsonl"), head, verdicts, tuple(traits), footer)


def everything() -> Run:
    """Return a run with every verdict, two subjects, a known divergence, and a torn trait."""
    names = records.VERDICTS
    made = [
        verdict(
            name,
            question=f"test_max_pool.py::test_{name}[float32]",
            failure=failure() if name in (*records.FAILING, "known") else None,
            known=("torch-max-nan",) if name == "known" else (),
            composed="-max(-x)" if name == "pass" else None,
            grade="pairwise half" if name == "pass" else None,
        )
        for name in names
    ]
    made.append(verdict(subject="jax", clauses=("no.such.clause",)))
    torn = [trait("ignored", rank=1, dtype="float32"), trait("propagated", rank=2, dtype="float32")]
    return run(*made, traits=[*torn, trait("propagated", "jax", rank=1, dtype="float32")])


# --- records ---------------------------------------------------------------------------------


def test_a_run_survives_writing_and_reading(tmp_path: Path) -> None:
    made = everything()
    again = records.read(write(tmp_path / "new" / "verdicts.jsonl", made))
    assert repr(replace(again, path=made.path)) == repr(made)  # NaN and inf: equal as text
    assert not again.partial


def test_every_line_fits_the_schema_and_is_strict_json(tmp_path: Path) -> None:
    schema = json.loads(records.SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = write(tmp_path / "verdicts.jsonl", everything()).read_text().splitlines()
    assert len(lines) == 14
    for line in lines:
        validator.validate(json.loads(line, parse_constant=refuse))
    for wrong in ({"record": "verdict"}, {**json.loads(lines[1]), "verdict": "ok"}, {}):
        assert not validator.is_valid(wrong)
        with pytest.raises(ValueError, match=r"record|verdict"):
            records.decode(json.dumps(wrong))


@pytest.mark.parametrize("size", [3, 400])
@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16, "int64", "bool"])
def test_arrays_survive_bit_for_bit(dtype: Any, size: int) -> None:
    values = [1, 0] if np.dtype(dtype).kind in "ib" else [1, -0.0, 0.1, math.nan, -math.inf]
    array = np.resize(np.array(values), (size, 1, 2)).astype(dtype)
    packed = json.loads(json.dumps(records.encode(arrays.pack(array)), allow_nan=False))
    again = arrays.unpack(Array(packed["dtype"], tuple(packed["shape"]), packed["data"]))
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", [(), (0, 2)])
def test_arrays_without_axes_or_elements_survive(shape: tuple[int, ...]) -> None:
    again = arrays.unpack(arrays.pack(np.full(shape, 2.5, np.float32)))
    np.testing.assert_array_equal(again, np.full(shape, 2.5, np.float32), strict=True)


def test_an_unreadable_array_is_shown_as_such() -> None:
    assert "unreadable" in arrays.text(Array("float32", (2,), "no base64"))
    assert "unreadable" in arrays.text(Array("float33", (2,), [1, 2]))


def test_a_file_cut_anywhere_after_its_header_is_readable_and_partial(tmp_path: Path) -> None:
    made = run(verdict(), failed(question="test_max_pool.py::test_law"))
    whole = write(tmp_path / "whole.jsonl", made).read_bytes()
    start = whole.index(b"\n") + 1
    cut = tmp_path / "cut.jsonl"
    for end in range(start, len(whole) - 1, 7):
        cut.write_bytes(whole[:end])
        read = records.read(cut)
        assert read.partial
        assert read.truncated == (b"\n" not in whole[end - 1 : end + 1])
        assert brief.banner(read).startswith(f"PARTIAL: {read.recorded} of 2 questions")


def test_the_last_of_several_verdicts_on_a_question_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "verdicts.jsonl", run(verdict(), failed()))
    again = records.read(path)
    assert [v.verdict for v in again.verdicts] == ["fail"]
    assert "MaxPool  1F" in summary.text(again)


def test_what_makes_a_run_partial() -> None:
    two = (verdict(), verdict(subject="jax"))
    assert not run(*two).partial
    assert run(*two, ended=False).partial
    assert run(*two, head=header("torch", "jax", planned=3)).partial
    missing = run(*two, head=header("torch", "jax", "tensorflow"))
    assert missing.partial
    assert missing.missing == ("tensorflow",)
    assert "nothing from tensorflow" in brief.banner(missing)


def test_a_question_recorded_twice_counts_once() -> None:
    twice = run(verdict(), verdict(), head=header("torch", planned=2))
    assert twice.recorded == 1
    assert twice.partial


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{nonsense", "Expecting"),
        ('{"record": "verdikt"}', "record: 'verdikt' is none of 'header', 'verdict'"),
        ('{"seconds": 1}', "record: is missing"),
        ("[1]", "needs a table, not [1]"),
        ('{"record": "footer", "finished": "x", "seconds": 1}', "footer.recorded: is missing"),
        (
            '{"record": "footer", "finished": "x", "seconds": "1", "recorded": 1}',
            "footer.seconds: needs a number of 64 bits, not '1'",
        ),
        (
            '{"record": "footer", "finished": "x", "seconds": 1, "recorded": true}',
            "footer.recorded: needs an integer, not True",
        ),
        (
            '{"record": "footer", "finished": "x", "seconds": 1, "recorded": 1, "more": 1}',
            "footer.more: is unknown",
        ),
        pytest.param("[" * 200_000, "nested too deeply", id="deep"),
        pytest.param(
            f'{{"record": "footer", "finished": "x", "seconds": {10**400}, "recorded": 1}}',
            "seconds: is an integer beyond",
            id="large",
        ),
    ],
)
def test_a_malformed_line_is_named_with_a_remedy(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path / "verdicts.jsonl", run(verdict(), ended=False))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(records.RecordError) as caught:
        records.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 3: ")
    assert said in message
    assert "delete the line" in message


@pytest.mark.parametrize("layers", [-1, None, "x", [None], [[]]], ids=str)
def test_a_case_whose_layers_are_none_is_a_malformed_line(tmp_path: Path, layers: Any) -> None:
    case = {"layers": layers, "shape": [1, 4, 1]}
    path = write(tmp_path / "verdicts.jsonl", run(verdict("fail", failure=failure(case=case))))
    with pytest.raises(records.RecordError, match=r"verdict\.failure\.case\.layers.*: needs"):
        records.read(path)


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (2,), [1, 10**400]),
        Array("9" * 5000, (2,), [1, 2]),
        Array("float32", (4,), base64.b64encode(zlib.compress(bytes(10**8))).decode()),
    ],
    ids=["large number", "long dtype", "bomb"],
)
def test_an_array_that_cannot_be_is_shown_as_unreadable(array: Array) -> None:
    assert "unreadable" in arrays.text(array)


WRONG: tuple[Any, ...] = (
    True, None, "", "x", -1, 10**400, 1e308, [], [[1], [2]], ["x", True], {}, [{"type": [1]}],
    json.loads("[" * 90 + "]" * 90),
)  # fmt: skip


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where a JSON value holds others; of a list, its first two places."""
    yield at
    lists = isinstance(value, list)
    keys = range(len(value[:2])) if lists else value if isinstance(value, dict) else ()
    for key in keys:
        yield from _places(value[key], (*at, key))


def _with(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copied = copy(value)
    copied[at[0]] = _with(value[at[0]], at[1:], new)
    return copied


def _read_or_refused(path: Path) -> Run | None:
    """Return a run; None where it is refused in one line that names the file."""
    try:
        return records.read(path)
    except records.RecordError as error:
        said = str(error)
    assert said.startswith(f"{path}")
    assert len(said.splitlines()) == 1
    return None


@pytest.mark.parametrize("number", range(4), ids=["header", "verdict", "trait", "footer"])
def test_a_malformed_field_is_named_or_shown(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_clauses", dict)  # which fill most of a report, and stay the same
    monkeypatch.setattr(page, "specification", lambda: NONE)  # likewise
    monkeypatch.setattr(page, "_networks", dict)
    others = (failure(Dense(2, 3), arrays={}, message="another"),)
    made = run(
        failed(Conv((2, 2), in_channels=1, out_channels=2), others=others),
        traits=[trait("a", rank=1)],
    )
    path = write(tmp_path / "verdicts.jsonl", made)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shown = 0
    for at in _places(lines[number]):
        for wrong in WRONG:
            changed = [*lines[:number], _with(lines[number], at, wrong), *lines[number + 1 :]]
            path.write_text("".join(f"{json.dumps(line)}\n" for line in changed))
            if (again := _read_or_refused(path)) is None:
                continue
            shown += 1
            for show in formats.FORMATS.values():
                assert show(again)
            assert summary.text(again)
            for form in diff.FORMATS:
                with suppress(records.RecordError):  # no subject in common
                    assert diff.text(diff.compare(made, again), form)
    assert shown


def test_headers_are_first_once_and_of_this_schema(tmp_path: Path) -> None:
    path = write(tmp_path / "verdicts.jsonl", run(verdict()))
    text = path.read_text()
    path.write_text(text + text)
    with pytest.raises(records.RecordError, match="line 4: a second header"):
        records.read(path)
    path.write_text(text.split("\n", 1)[1])
    with pytest.raises(records.RecordError, match="line 1: a verdict before any header"):
        records.read(path)
    path.write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(records.RecordError, match="line 1: the format is schema 2"):
        records.read(path)
    for nothing in ("", '{"record": "hea'):
        path.write_text(nothing)
        with pytest.raises(records.RecordError, match="no header"):
            records.read(path)
    with pytest.raises(records.RecordError, match="No such file"):
        records.read(tmp_path / "absent")


def test_a_run_is_found_by_file_folder_or_age(tmp_path: Path) -> None:
    with pytest.raises(records.RecordError, match="pytest conformance"):
        records.resolve(None, tmp_path)
    made = [write(tmp_path / ".cnnformance" / n / "verdicts.jsonl", run()) for n in ("1", "2")]
    assert records.resolve(None, tmp_path) == made[1]
    assert records.resolve(".cnnformance/1", tmp_path) == made[0]
    assert records.resolve(str(made[0]), tmp_path) == made[0]
    assert records.resolve(tmp_path, Path("elsewhere")) == made[1]
    for absent in ("absent", ".cnnformance"):
        with pytest.raises(records.RecordError, match="name"):
            records.resolve(absent, tmp_path)


# --- matrix ----------------------------------------------------------------------------------


def test_the_worst_of_nothing_is_not_a_pass() -> None:
    assert matrix.worst([]) is None
    assert matrix.worst(["pass", "not-run"]) == "not-run"
    assert tables.counted([]).text == "-"
    cell = tables.counted([verdict("not-run"), verdict("pass"), verdict("crash")])
    assert (cell.text, cell.verdict) == ("1 crash, 1 not-run, 1 pass", "crash")


def test_a_subject_without_verdicts_on_a_layer_shows_a_dash() -> None:
    table = tables.layers(run(verdict(), verdict(subject="jax", layer="ReLU")))
    assert table.head == ("layer", "torch", "jax")
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts == [["MaxPool", "1 pass", "-"], ["ReLU", "-", "1 pass"]]


def test_clauses_count_each_question_and_unknown_ones_are_kept() -> None:
    found = matrix.by_clause(everything())
    assert len(found["pool.max.formula"]["torch"]) == len(records.VERDICTS)
    shown = {row[0].text: [c.text for c in row[2:]] for row in tables.clauses(everything()).rows}
    assert shown["no.such.clause"] == ["-", "1 pass"]
    assert tables.clause("no.such.clause") == "no.such.clause"


def test_grades_are_the_loosest_and_shares_the_largest() -> None:
    made = run(
        verdict(grade="float32", share=0.9),
        verdict(grade="half", share=0.1, question="q2"),
        verdict(dtype="float16", share=None, question="q3"),
    )
    assert matrix.grades(made) == {("MaxPool", "float32"): {"torch": matrix.Grade("half", 0.9)}}


def test_a_faulty_cell_is_not_graded_exact() -> None:
    made = run(verdict(share=0.0), failed(question="q2", share=0.0))
    (grade,) = matrix.grades(made)["MaxPool", "float32"].values()
    assert tables.graded(grade) == tables.Cell("fail", "fail")
    made = run(verdict(share=0.0), failed(name="known", question="q2", share=0.5, grade="half"))
    (grade,) = matrix.grades(made)["MaxPool", "float32"].values()
    assert tables.graded(grade) == tables.Cell("known, half, 0.5 of the bound", "known")
    (grade,) = matrix.grades(run(verdict(share=0.0)))["MaxPool", "float32"].values()
    assert tables.graded(grade) == tables.Cell("exact")


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "0 of the bound"),
        (0.25, "0.25 of the bound"),
        (0.9949, "0.99 of the bound"),
        (0.9967, "1.00 of the bound (within)"),
        (math.nextafter(1, 0), "1.00 of the bound (within)"),
        (1.0, "1 of the bound"),
        (math.nextafter(1, 2), "1.0000000000000002 of the bound"),
        (1.0000004, "1.0000004 of the bound"),
        (1.04, "1.04 of the bound"),
        (1.06, "1.1 of the bound"),
        (math.inf, "inf of the bound"),
        (math.nan, "nan of the bound"),
    ],
)
def test_a_share_keeps_its_side_of_one(share: float, said: str) -> None:
    assert tables.part(share) == said


def test_many_numbers_of_a_trait_are_a_range() -> None:
    def measured(*values: str) -> list[tuple[str, int, int]]:
        choices = matrix.traits(run(traits=[trait(v, at=v) for v in values]))["max_pool.nan"]
        return [(c.value, c.values, c.measured) for c in choices["torch"]]

    many = [f"shares [{n / 8}, 0.5, {-n}e-05]" for n in range(8)]
    assert measured(*many, "one takes all") == [
        ("one takes all", 1, 1),
        ("shares [0.0 to 0.875, 0.5, -7e-05 to 0e-05]", 8, 8),
    ]
    few = ["gives float32", "gives float64", "NaN gives 1.0", "NaN gives 2.0"]
    assert [value for value, _, _ in measured(*few)] == sorted(few)
    (choice,) = matrix.traits(run(traits=[trait(v) for v in many]))["max_pool.nan"]["torch"]
    assert tables.chosen([choice]).text.startswith("inconsistent: shares [0.0 to 0.875, 0.5,")


def test_a_trait_with_two_values_is_inconsistent_and_says_where() -> None:
    choices = matrix.traits(everything())["max_pool.nan"]
    assert [c.value for c in choices["jax"]] == ["propagated"]
    assert [(c.value, c.where) for c in choices["torch"]] == [
        ("ignored", ("rank == 1",)),
        ("propagated", ("rank == 2",)),
    ]
    assert tables.chosen(choices["torch"]).text.startswith("inconsistent: ignored (rank == 1);")


def _where(*verdicts: Verdict) -> list[tuple[tuple[str, ...], int]]:
    numbered = [replace(v, question=f"test_{n}.py::t") for n, v in enumerate(verdicts)]
    return [(f.where, len(f.verdicts)) for f in causes.findings(run(*numbered))]


@pytest.mark.parametrize(
    ("layer", "predicate"),
    [
        (MaxPool((2, 2)), ()),
        (MaxPool((2, 2), stride=(1, 1)), ("stride != window",)),
        (MaxPool((2, 2), ceil_mode=True), ("ceil_mode",)),
        (MaxPool((2, 2), padding="same"), ("padding == same",)),
        (MaxPool((2, 2), padding=((1, 0), (0, 0))), ("padding != 0",)),
        (MaxPool((2, 2), dilation=(2, 1)), ("dilation != 1",)),
        (MaxPool((5, 1)), ("window > input",)),
    ],
)
def test_a_finding_names_what_its_case_departs_in(layer: Layer, predicate: tuple[str, ...]) -> None:
    assert _where(failed(layer)) == [(predicate, 1)]


def test_findings_keep_what_all_cases_share() -> None:
    both = MaxPool((2, 2), ceil_mode=True, padding="same")
    ceil = MaxPool((2, 2), ceil_mode=True)
    assert _where(failed(both), failed(ceil)) == [(("ceil_mode", "rank == 2"), 2)]


def test_a_plain_case_among_others_makes_one_finding() -> None:
    ceil = MaxPool((2, 2), ceil_mode=True)
    same = MaxPool((2, 2), padding="same")
    assert _where(failed(ceil), failed(same), failed()) == [(("rank == 2",), 3)]


def test_cases_without_a_common_departure_are_parted() -> None:
    ceil = MaxPool((2, 2), ceil_mode=True)
    same = MaxPool((2, 2), padding="same")
    found = _where(failed(ceil), failed(same), failed(ceil))
    assert found == [(("ceil_mode", "rank == 2"), 2), (("padding == same",), 1)]


def test_a_dtype_is_named_if_the_same_test_passes_in_another() -> None:
    half = failed(dtype="float16", question="a.py::t[float16]")
    other = verdict(question="a.py::t[float32]")
    (finding,) = causes.findings(run(half, other))
    assert finding.where == ("dtype == float16",)
    (finding,) = causes.findings(run(half, failed(question="a.py::t[float32]")))
    assert finding.where == ("rank == 2",)


def test_a_dtype_is_a_departure_that_parts_causes() -> None:
    half = failed(question="q1", dtype=None)  # a question that draws its dtypes
    assert half.failure
    half = replace(half, failure=failure(case={**(half.failure.case or {}), "dtype": "float16"}))
    ceil = failed(MaxPool((2, 2), ceil_mode=True))
    assert _where(half, ceil) == [(("ceil_mode",), 1), (("dtype == float16",), 1)]


def test_a_dtype_tells_nothing_where_the_others_were_hardly_asked() -> None:
    single = failed(examples=600, question="a.py::t[float32]")
    double = verdict(dtype="float64", examples=20, question="a.py::t[float64]")
    (finding,) = causes.findings(run(single, double))
    assert finding.where == ()
    (finding,) = causes.findings(run(single, replace(double, examples=600)))
    assert finding.where == ("dtype == float32",)


def test_a_dtype_of_which_a_test_was_asked_alone_is_no_departure() -> None:
    half = failed(dtype="float16", question="a.py::t[float16]")
    assert half.failure
    half = replace(half, failure=failure(case={**(half.failure.case or {}), "dtype": "float16"}))
    assert _where(half) == [((), 1)]
    declined = verdict("unsupported", question="a.py::t[float32]", examples=0)
    (finding,) = causes.findings(run(half, declined))
    assert finding.where == ()


def test_each_rule_whose_breach_is_accepted_is_a_finding() -> None:
    wide = failed(MaxPool((2, 2), stride=(1, 1)), effect="not-refused")
    assert _where(wide, wide) == [((), 1), ((), 1)]


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_without_bias_is_shown_as_such(bias: bool) -> None:
    found = tables.details(failed(Dense(2, 3, bias=bias)))
    (shown,) = (detail.text for detail in found if detail.label == "layer")
    assert shown == f"Dense(in_features=2, out_features=3{'' if bias else ', bias=False'})"


def test_effects_and_subjects_are_different_findings_and_known_ones_apart() -> None:
    made = run(
        failed(),
        failed(name="crash", effect="crash", question="q2"),
        failed(subject="jax"),
        failed(name="known", question="q3", known=("torch-nan",)),
    )
    found = causes.findings(made)
    assert [(f.verdict, f.subject) for f in found] == [
        ("crash", "torch"),
        ("fail", "torch"),
        ("fail", "jax"),
    ]
    (known,) = divergences.seen(made)
    assert known.id == "torch-nan"


def test_each_torn_trait_is_a_finding() -> None:
    named = ("test_nan_in_selections", "test_subnormals_in_selections")
    torn = [failed(effect="trait", question=f"a.py::{name}", message=name) for name in named]
    assert [tables.happened(f.shortest) for f in causes.findings(run(*torn))] == list(named)


def test_a_finding_counts_a_question_once() -> None:
    again = failure(message="the same in another memory")
    made = run(failed(others=(again, again)))
    (finding,) = causes.findings(made)
    assert len(finding.verdicts) == 3
    assert len(finding.questions) == 1
    assert "(1 question;" in tables.sentence(finding)
    assert json.loads(render.render(made, "json"))["findings"][0]["questions"] == [
        *finding.questions
    ]


def test_each_failure_of_a_verdict_is_a_finding_of_its_own_layer() -> None:
    crash = failure(Dense(2, 3), effect="crash", message="died")
    wrong = failure(MaxPool((2, 2), ceil_mode=True), message="at (0, 0)")
    first = failed(message="the first", others=(wrong, crash), known=("torch-nan",))
    found = causes.findings(run(first))
    assert [(f.verdict, f.layer, tables.happened(f.shortest)) for f in found] == [
        ("crash", "Dense", "died"),
        ("fail", "MaxPool", "the first"),
    ]
    assert [len(f.verdicts) for f in found] == [1, 2]
    shown = tables.failures(run(first))
    assert [v.message for v in shown] == ["died", "the first", "at (0, 0)"]


ENTRY = Divergence(
    id="torch.max-nan", kind="open", layers=("MaxPool",), effects=("trait",), when="True",
    modes=("default",), versions=">=1,<3", says="It drops a NaN.",
    link="https://example.org/1", seen="2026-01-02",
)  # fmt: skip


def test_a_divergence_is_told_once_with_all_that_is_recorded_of_it() -> None:
    head = header(planned=3)
    head = replace(head, subjects=(replace(head.subjects[0], divergences=(ENTRY,)),))
    met = [
        failed(name="known", question="q1", known=(ENTRY.id, "torch.other")),
        replace(failed(name="known", question="q2", known=(ENTRY.id,)), layer="MinPool"),
        failed(question="q3", known=(ENTRY.id,)),
    ]
    made = run(*met, head=head)
    first, other = divergences.seen(made)
    assert (first.entry, len(first.verdicts)) == (ENTRY, 3)
    assert (other.id, other.entry, other.says) == ("torch.other", None, other.verdicts[0].message)
    line = (
        "known: torch, torch.max-nan (open, versions >=1,<3, modes default, first seen 2026-01-02; "
        "3 questions of MaxPool, MinPool): It drops a NaN. https://example.org/1"
    )
    assert summary.text(made).count("torch.max-nan") == 1
    assert "   3 torch.max-nan: MaxPool, MinPool" in summary.text(made).splitlines()
    assert line in render.render(made).splitlines()
    for form in ("markdown", "html"):
        shown = render.render(made, form)
        for said in ("It drops a NaN.", "open", "2026-01-02", "https://example.org/1"):
            assert said in shown
    told = json.loads(render.render(made, "json"))["known"][0]
    assert (told["id"], told["class"], told["seen"]) == (ENTRY.id, "open", "2026-01-02")
    assert (told["link"], told["versions"], told["says"]) == (ENTRY.link, ">=1,<3", ENTRY.says)
    assert told["questions"] == ["q1", "q2", "q3"]


@pytest.mark.parametrize(
    ("effect", "layers", "layer"),
    [
        ("value", [Dense(1, 1)], "Dense"),
        ("dtype", [Dense(1, 1), Dense(1, 2)], "Dense"),
        ("value", [Dense(1, 1), MaxPool((1,))], "GlobalMaxPool"),
        ("law", [MaxPool((1,))], "GlobalMaxPool"),
        ("trait", [MaxPool((1,))], "GlobalMaxPool"),
        ("crash", [], "GlobalMaxPool"),
    ],
)
def test_a_failure_is_of_the_layer_that_it_shows(
    effect: records.Effect, layers: list[Layer], layer: str
) -> None:
    shown = Failure(effect, {"layers": list(map(to_json, layers))})
    assert records.blamed("GlobalMaxPool", shown) == layer
    assert records.blamed("GlobalMaxPool", Failure(effect)) == "GlobalMaxPool"


def test_a_subject_that_did_not_start_is_one_finding() -> None:
    made = [
        replace(failed(name="error", effect="adapter", question=name), layer=name)
        for name in ("MaxPool", "ReLU", "Dense")
    ]
    (finding,) = causes.findings(run(*made))
    assert finding.layer == "3 layers"


def test_the_smallest_case_comes_first() -> None:
    small, large = failed(MaxPool((1,))), failed(MaxPool((1, 1, 1)), question="q2")
    (finding,) = causes.findings(run(large, small))
    assert finding.shortest == small


def test_records_of_other_layers_or_cases_do_not_break_findings() -> None:
    strange = replace(failure(), case={"layers": [{"type": "MaxPool"}], "shape": [], "dtype": ""})
    bare = verdict("crash", failure=None)
    assert len(causes.findings(run(verdict("fail", failure=strange), bare))) == 2


# --- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(render.FORMATS))
def test_every_format_tells_the_whole_failure(form: str) -> None:
    text = render.render(everything(), form)
    for told in ("torch-max-nan", "MaxPool", "pool.max.formula", "1.2e-07", "pairwise half"):
        assert told in text
    for number in ("6.0", "5.0", "import torch", "max pool of" if form == "json" else "propagated"):
        assert number in text


@pytest.mark.parametrize("form", sorted(render.FORMATS))
def test_a_partial_run_says_so_first(form: str) -> None:
    made = run(verdict(), head=header("torch", "jax", planned=412), ended=False)
    said = "PARTIAL: 1 of 412 questions recorded"
    text = render.render(made, form)
    assert said in text
    assert text.index(said) < text.index("MaxPool")
    assert "PARTIAL" not in render.render(run(verdict()), form)
    assert summary.text(made).startswith(said)


@pytest.mark.parametrize("form", sorted(render.FORMATS))
def test_what_was_not_run_is_no_pass_and_no_percentage(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "load", credentials.Credentials)  # shares of other runs
    text = render.render(run(verdict("not-run", examples=0, share=None)), form)
    assert "not-run" in text
    assert "1 pass" not in text
    assert '"pass"' not in text
    if form == "html":  # what stands in a tag is not shown
        text = re.sub(r"<(style|script).*?</\1>|<[^>]*>", "", text, flags=re.DOTALL)
    assert "0 %" not in text
    assert "0%" not in text.replace("100%", "")


@pytest.mark.parametrize("form", sorted(render.FORMATS))
def test_a_pass_on_fewer_cases_than_planned_says_so(form: str) -> None:
    whole = verdict(examples=37, planned=37)
    short = verdict(question="q2", examples=12, planned=600)
    text = render.render(run(whole, short), form)
    counted = {"json": '"asked": 12', "html": "1 cut short"}.get(form, "2 pass (1 cut short)")
    assert counted in text
    assert ('"planned": 600' if form == "json" else "12 of 600") in text
    assert "cut short" not in render.render(run(whole, verdict(question="q2")), form).lower()
    assert "1 question asked fewer cases than planned, 12 of 600" in summary.text(run(short))


@pytest.mark.parametrize("form", sorted(render.FORMATS))
def test_where_a_pass_proves_little_is_shown(form: str) -> None:
    blunt = [
        verdict(dtype="bfloat16", sharpness=0.75),
        verdict(dtype="bfloat16", sharpness=8.5, question="q2"),
        verdict(dtype="float16", question="q3"),
        verdict("fail", dtype="float64", sharpness=9.0, question="q4"),
    ]
    sharp = [verdict(sharpness=0.25), verdict(sharpness=0.5, question="q5")]
    assert matrix.proves_little(run(*blunt, *sharp)) == {
        ("MaxPool", "bfloat16"): {"torch": 0.75},
        ("MaxPool", "float16"): {"torch": None},
    }
    text = render.render(run(*blunt, *sharp), form)
    assert ('"sharpest"' if form == "json" else "0.75 at best") in text
    assert ("null" if form == "json" else "no value compared") in text
    if form != "json":
        assert "proves little" not in render.render(run(verdict()), form)


@pytest.mark.parametrize("form", sorted(render.FORMATS))
def test_a_run_without_verdicts_renders(form: str) -> None:
    assert "PARTIAL: 0 of 9" in render.render(run(head=header("torch", planned=9)), form)


def test_the_json_is_strict_and_complete() -> None:
    data = json.loads(render.render(everything(), "json"))
    assert data["layers"]["MaxPool"]["torch"] == dict.fromkeys(records.VERDICTS, 1)
    assert len(data["failures"]) == len(records.FAILING)
    assert data["failures"][0]["failure"]["share"] == "inf"
    assert data["failures"][0]["failure"]["script"] == SCRIPT
    assert [found["id"] for found in data["known"]] == ["torch-max-nan"]


def test_markdown_keeps_cells_and_code_whole() -> None:
    text = render.render(run(replace(failed(), message="a | b\nc <d>")), "markdown")
    row = next(line for line in text.splitlines() if line.startswith("| fail"))
    assert "a \\| b c &lt;d>" in row
    assert row.replace("\\|", "").count("|") == 9
    assert f"\n````\n{SCRIPT}\n````\n" in text


def test_markdown_heads_are_escaped() -> None:
    hostile = "a|b*`[x](y)~~<i>\n# c"
    text = render.render(run(verdict(subject=hostile), verdict(subject="jax")), "markdown")
    (head,) = (line for line in text.splitlines() if line.startswith("| layer | a"))
    assert head == r"| layer | a\|b\*\`\[x\](y)\~\~&lt;i> # c | jax |"


def test_the_terminal_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    subjects = [f"subject{n}" for n in range(5)]
    made = [verdict(name, subject=s, question=name) for s in subjects for name in records.VERDICTS]
    table = render.terminal_table(tables.layers(run(*made)))
    assert max(map(len, table.splitlines())) <= 100


def test_the_summary_has_the_matrix_and_a_line_for_each_finding() -> None:
    lines = summary.text(everything()).splitlines()
    assert any(line.startswith("MaxPool") for line in lines)
    finding = "crash: torch MaxPool, value where rank == 2 (4 questions; pool.max.formula)"
    assert sum(line.startswith(finding) for line in lines) == 1
    assert "   1 torch-max-nan: MaxPool (torch)" in lines
    assert any("inconsistent" in line and "1 in torch" in line for line in lines)
    assert any("333 examples in 71.3 s" in line for line in lines)
    assert "No findings." in summary.text(run(verdict()))


REPLACED = "\N{REPLACEMENT CHARACTER}"
HOSTILE = "\x1b[1mred\x1b[0m\x9b31m\x1b]0;title\x07 a\x07\x85\u202e\u2066\u200b\u2028\udc80lert\r\n"
"""A colour, a window's title, and controls: C0, C1, bidirectional, invisible, a lone surrogate."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, "red a" + 7 * REPLACED + "lert\n"),
        ("plain\ttext é 漢 \N{GRINNING FACE}\n", "plain\ttext é 漢 \N{GRINNING FACE}\n"),
        ("\x1b[38;2;1;2;3mx\x1bP1$r\x1b\\y\x9d8;;u\x9cz", "xyz"),
        ("50 %\r100 %\r\n", "50 %\n100 %\n"),
        ("\x1b]0;never ended", f"{REPLACED}]0;never ended"),
        ("\x1b", REPLACED),
    ],
)
def test_what_acts_instead_of_being_read_is_not_printed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_control_characters_of_frameworks_stay_out() -> None:
    """Every text of a record is one that somebody else may have written."""

    def spoiled(value: Any) -> Any:
        match value:
            case dict():
                return {f"{k}{HOSTILE}": spoiled(v) for k, v in value.items()}
            case tuple() | list():
                return type(value)(map(spoiled, value))
            case str():
                return f"{value}{HOSTILE}"
        return value

    made = everything()
    verdicts = []
    for v in made.verdicts:
        failure = v.failure and replace(
            v.failure,
            **{
                f.name: spoiled(getattr(v.failure, f.name))
                for f in fields(v.failure)
                if f.name not in ("effect", "arrays")
            },
            arrays={f"x{HOSTILE}": Array(f"float32{HOSTILE}", (1,), [HOSTILE])},
        )
        names = ("subject", "question", "layer", "clauses", "level", "dtype", "composed", "known")
        texts = {name: spoiled(getattr(v, name)) for name in (*names, "message")}
        verdicts.append(replace(v, **texts, failure=failure))
    torn = [replace(t, **{n: spoiled(getattr(t, n)) for n in vars(t)}) for t in made.traits]
    named = tuple(Subject(s.subject + HOSTILE, s.version + HOSTILE) for s in made.header.subjects)
    head = replace(made.header, subjects=named, profile=HOSTILE)
    hostile = replace(made, header=head, verdicts=tuple(verdicts), traits=tuple(torn))
    pair = (cleaned(named[0].subject), cleaned(named[1].subject))
    compared = diff.compare(hostile, hostile, pair)
    shown = [show(hostile) for show in formats.FORMATS.values()]
    shown += [summary.text(hostile), *(diff.text(compared, form) for form in diff.FORMATS)]
    for text in shown:
        assert not {c for c in text if unicodedata.category(c) in ("Cf", "Cs", "Zl", "Zp")}
        assert {c for c in text if unicodedata.category(c) == "Cc"} <= {"\n"}


def test_findings_stay_on_one_short_line() -> None:
    long = replace(failed(), message="word\n" * 200, clauses=("a.b", "c.d", "e.f"))
    (finding,) = causes.findings(run(long))
    sentence = tables.sentence(finding)
    assert "a.b and 2 more" in sentence
    assert len(sentence) < 240
    assert "\n" not in sentence


# --- diff ------------------------------------------------------------------------------------


def _kinds(first: Run, second: Run) -> list[tuple[str, str]]:
    return [(c.kind, c.after.question) for c in diff.compare(first, second).changes]


def test_changes_are_regressions_repairs_or_neither() -> None:
    names: list[tuple[VerdictName, VerdictName]] = [
        ("pass", "fail"),
        ("fail", "pass"),
        ("fail", "not-run"),
        ("fail", "crash"),
        ("pass", "pass"),
        ("known", "pass"),
    ]
    before = [verdict(was, question=f"q{n}") for n, (was, _) in enumerate(names)]
    after = [verdict(now, question=f"q{n}") for n, (_, now) in enumerate(names)]
    assert _kinds(run(*before), run(*after)) == [
        ("regression", "q0"),
        ("changed", "q2"),
        ("changed", "q3"),
        ("changed", "q5"),
        ("repair", "q1"),
    ]


def test_subjects_are_matched_by_name_by_version_or_as_the_only_ones() -> None:
    def holding(*names: str) -> Run:
        return run(*(verdict(subject=name) for name in names))

    assert diff.pairs(holding("torch"), holding("jax")) == (("torch", "jax"),)
    first, second = holding("torch==2.4", "jax"), holding("torch==2.13", "jax")
    assert diff.pairs(first, second) == (("jax", "jax"), ("torch==2.4", "torch==2.13"))
    modes = holding("torch==2.4:compile", "torch"), holding("torch==2.13:compile", "numpy")
    assert diff.pairs(*modes) == (("torch==2.4:compile", "torch==2.13:compile"),)
    with pytest.raises(records.RecordError, match="--between"):
        diff.compare(holding("torch", "jax"), holding("numpy"))


def test_two_subjects_of_one_run_can_be_compared() -> None:
    made = everything()
    found = diff.compare(made, made, ("torch", "jax"))
    assert found.pairs == (("torch", "jax"),)
    assert found.traits[("torch", "jax"), "max_pool.nan"][1] == "propagated"
    with pytest.raises(records.RecordError, match="no subject 'keras'; there are torch, jax"):
        diff.compare(made, made, ("torch", "keras"))


@pytest.mark.parametrize("form", sorted(diff.FORMATS))
def test_what_one_run_alone_asked_is_counted_and_not_compared(form: str) -> None:
    first = run(
        verdict(question="q1", grade="half", layer="Conv"),
        verdict(question="q2", grade="half"),
        traits=[trait("a", layer="MaxPool"), trait("b", layer="Dense")],
    )
    second = run(
        verdict(question="q2", grade="half"),
        verdict(question="q3", grade="float32"),
        verdict(question="q4", grade="float32", layer="Dense"),
        verdict(subject="jax", question="q2"),
        traits=[trait("c", layer="Conv"), trait("b", layer="Dense")],
    )
    found = diff.compare(first, second)
    assert (found.changes, found.traits, found.grades) == ((), {}, {})
    assert found.only == (("first", "torch", 1), ("second", "torch", 2), ("second", "jax", 1))
    said = "1 question of torch (the first), 2 questions of torch (the second), 1 question of jax"
    text = diff.text(found, form)
    assert text.count(said) == 1
    assert "0 regressions, 0 repairs, 0 changed otherwise; 0 traits differ" in text


def test_traits_are_compared_where_both_measured_them() -> None:
    first = run(verdict(question="q1"), verdict(question="q2"), traits=[trait("a", layer="Dense")])
    second = run(verdict(question="q2"), traits=[trait("b", layer="Dense")])
    assert list(diff.compare(first, second).traits.values()) == [("a", "b")]
    alike = run(verdict(question="q1"), verdict(question="q2"))
    assert list(diff.compare(first, alike).traits.values()) == [("a", "-")]


@pytest.mark.parametrize("form", sorted(diff.FORMATS))
def test_a_comparison_shows_traits_grades_and_partial_runs(form: str) -> None:
    first = run(verdict(grade="half"), traits=[trait("ignored")])
    second = run(verdict("fail", grade="float32"), traits=[trait("propagated")], ended=False)
    text = diff.text(diff.compare(first, second), form)
    for told in ("regression", "ignored", "propagated", "half", "float32", "second run: PARTIAL"):
        assert told in text
    assert "first run: PARTIAL" not in text
    assert "1 regression, 0 repairs, 0 changed otherwise" in text
