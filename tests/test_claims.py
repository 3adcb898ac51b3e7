"""The experiments measure what they say, alike of all correct kernels, and show faulty ones."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from made import run, verdict

from cnnformance.adapters.backend import Array
from cnnformance.conformance import digits, experiments, models, test_claims
from cnnformance.conformance.experiments import Figures, Measurement
from cnnformance.reference import (
    bounds,
    fast_algorithms,
    forward,
    forward_model,
    model_shapes,
    parameter_count,
)
from cnnformance.reports import claims, records, render, statements, tables, topics
from cnnformance.reports.records import Trait
from cnnformance.spec import layers as spec
from cnnformance.spec.clauses import Claim, load

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = load().of(Claim)
MEASUREMENTS = [*experiments.shifts(), *experiments.noises(), *experiments.reads()]


def _logits() -> list[Array]:
    net = digits.load()
    sides = [experiments.moved(net.images, *side) for side in ((0, 0), *experiments.SIDES)]
    return [forward_model(net.layers, net.weights, x) for x in sides]


def _costs() -> Iterator[Figures]:
    for name, model in experiments.PIPELINES.items():
        shapes = model_shapes(model, experiments.IMAGE)
        counts = parameter_count(model), parameter_count(model[-1])
        yield experiments.costs(name, model, shapes, *counts)


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Return every figure, as the reference gives it."""
    found = dict(experiments.kept(*_logits()))
    for each in (*map(test_claims.expected, MEASUREMENTS), *_costs()):
        found |= each
    return found


# --- the claims --------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_the_figures_of_a_claim_stand_in_its_order(claim: Claim, figures: Figures) -> None:
    values = {name: figure.value for name, figure in figures.items()}
    assert set(claim.figures) <= values.keys()
    for order in claim.order:
        assert order.holds(values)
        for name in order.figures:
            for extreme in (-math.inf, math.inf, math.nan):
                assert not order.holds({**values, name: extreme}) or extreme in (
                    -math.inf if order.terms[0] == name else None,
                    math.inf if order.terms[-1] == name else None,
                )


def test_an_order_passes_over_what_was_not_measured() -> None:
    (order, *_) = next(c for c in CLAIMS if c.id == "pool.max.shift-often").order
    assert order.terms == ("shift: convolution", "shift: max pooling", Fraction(1, 2))
    assert order.holds({})
    assert order.holds({"shift: convolution": 0.4})
    assert not order.holds({"shift: convolution": 0.6})
    assert not order.holds({"shift: convolution": 0.3, "shift: max pooling": 0.3})


def test_every_experiment_says_how_it_measures_and_settles_a_claim(figures: Figures) -> None:
    measured = {name.partition(": ")[0] for name in figures}
    claimed = {name.partition(": ")[0] for claim in CLAIMS for name in claim.figures}
    assert measured == claimed == experiments.SAYS.keys()


# --- what is measured --------------------------------------------------------------------------


def test_the_shares_that_stay_are_those_of_windows_counted_one_by_one(figures: Figures) -> None:
    images = digits.load().images[..., 0] * 16
    stay = {"max": 0, "average": 0}
    inked = 0
    for image in images:
        framed = np.zeros((10, 11))
        framed[1:9, 2:10] = image
        for row, column in itertools.product(range(0, 10, 2), range(0, 10, 2)):
            window = framed[row : row + 2, column + 1 : column + 3]
            moved = framed[row : row + 2, column : column + 2]
            if window.any() or moved.any():
                inked += 1
                stay["max"] += window.max() == moved.max()
                stay["average"] += window.sum() == moved.sum()
    for name, count in stay.items():
        assert figures[f"shift: {name} pooling"].value == Fraction(count, inked)


def test_what_independent_noise_loses_in_a_mean_of_four_is_half_of_it(figures: Figures) -> None:
    """The deviation of a mean of n is that of one over the root of n, and its level is 0."""
    outputs = 200 * 5 * 5
    assert abs(figures["noise: average pooling"].value - 1 / 2) < 5 / math.sqrt(2 * outputs)
    level = float(figures["noise: level of average pooling"].value)
    assert abs(level) < 5 / 2 / math.sqrt(outputs)


def test_noise_through_a_convolution_is_as_large_as_its_kernels_are(figures: Figures) -> None:
    kernels = np.rint(digits.load().weights[0]["weight"] * 8) / 8
    norm = math.sqrt((kernels**2).sum(axis=(0, 1, 2)).mean())
    assert figures["noise: convolution"].value == pytest.approx(norm, rel=0.05)  # of a sample


def test_cells_are_read_as_often_as_three_steps_lead_from_them_into_the_map(
    figures: Figures,
) -> None:
    """Counted path by path, along one axis; the two axes are independent."""
    side = 9
    steps = list(itertools.product((-1, 0, 1), repeat=3))

    def inside(start: int, path: tuple[int, ...], shrinking: int) -> bool:
        places = itertools.accumulate(path, initial=start)
        kept = enumerate(places)
        return all(shrinking * n <= at < side - shrinking * n for n, at in kept)

    for name, shrinking in (("without", 1), ("with", 0)):
        for place, at in (("corner", 0), ("centre", 4)):
            paths = sum(inside(at, path, shrinking) for path in steps)
            assert figures[f"reads: {place} {name} padding"].value == paths**2


def test_no_rounding_decides_which_predictions_stay() -> None:
    net = digits.load()
    for side, logits in zip(((0, 0), *experiments.SIDES), _logits(), strict=True):
        x = experiments.moved(net.images, *side)
        error = models.bound(net.layers, net.weights, x).error
        best = logits.argmax(axis=-1)[:, None]
        others = logits + error
        np.put_along_axis(others, best, -np.inf, -1)
        assert np.all(np.take_along_axis(logits - error, best, -1)[:, 0] > others.max(axis=-1))


def test_the_predictions_that_stay_are_those_of_the_digit_before() -> None:
    before, after, again = np.eye(3), np.eye(3)[[0, 1, 0]], np.eye(3)[[0, 1, 1]]
    assert experiments.kept(before, after, again) == {"predictions: kept": experiments.share(4, 6)}


def test_images_move_by_one_pixel_to_each_side() -> None:
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    moved = [experiments.moved(x, *side)[0, ..., 0].tolist() for side in experiments.SIDES]
    assert moved == [
        [[0, 1, 2], [0, 4, 5], [0, 7, 8]],
        [[2, 3, 0], [5, 6, 0], [8, 9, 0]],
        [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
        [[4, 5, 6], [7, 8, 9], [0, 0, 0]],
    ]


def test_costs_are_those_of_the_formulas(figures: Figures) -> None:
    first, second = 9 * 32 + 32, 9 * 32 * 64 + 64
    products = 9 * 32 * 28**2
    told = {
        "parameters with pooling": first + second + 3136 * 10 + 10,
        "parameters without": first + second + 28 * 28 * 64 * 10 + 10,
        "dense parameters with global average pooling": 64 * 10 + 10,
        "convolution parameters with stride": first + second,
        "multiplications with pooling": products + 9 * 32 * 64 * 14**2 + 3136 * 10,
        "multiplications with stride": products // 4 + 9 * 32 * 64 * 7**2 + 3136 * 10,
        "multiplications without": products + 9 * 32 * 64 * 28**2 + 50176 * 10,
        "cells with stride": 784 + 2 * 196 * 32 + 2 * 3136 + 3136 + 10,
    }
    told["bytes with stride"] = 4 * (told["cells with stride"] + told["parameters with pooling"])
    assert {name: figures[f"costs: {name}"].value for name in told} == told


def test_a_pipeline_of_which_something_is_missing_has_the_other_figures() -> None:
    model = experiments.PIPELINES["without"]
    shapes = model_shapes(model, experiments.IMAGE)

    def names(*asked: object) -> set[str]:
        found = experiments.costs("x", model, *asked)  # type: ignore[arg-type] # of each in turn
        return {name.removeprefix("costs: ").removesuffix(" x") for name in found}

    assert names(None, None, None) == set()
    assert names(None, 1, 1) == {"parameters", "dense parameters", "convolution parameters"}
    assert names(None, 1, None) == {"parameters"}
    assert names(shapes, None, None) == {"cells", "multiplications"}


# --- what rounding may do ----------------------------------------------------------------------


def _steps(each: Measurement) -> Iterator[tuple[Array, Array]]:
    """Yield the input of each step, and its exact output."""
    x = each.x
    for _ in range(each.times):
        y = np.asarray(forward(each.layer, x, each.weights))
        yield x, y
        x = y.astype(np.float32)


@pytest.mark.parametrize("each", MEASUREMENTS, ids=lambda m: next(iter(test_claims.expected(m))))
def test_what_an_algorithm_may_be_off_by_leaves_the_exact_output(each: Measurement) -> None:
    for x, y in _steps(each):
        assert (experiments.exact(each.layer, y) == y).all()
        if each.layer.exact:
            continue
        error = bounds.bound(each.layer, x, each.weights).error
        fast = dict(fast_algorithms.alternatives(each.layer, x, each.weights))
        fast.pop("Winograd", None)  # whose outputs are judged by themselves where a figure differs
        for allowed in (error, *(error + more for more in fast.values())):
            for off in (-allowed, allowed):
                assert (experiments.exact(each.layer, y + off) == y).all()


@pytest.mark.parametrize("each", experiments.noises(), ids=lambda m: type(m.layer).__name__)
def test_how_an_output_lies_in_memory_changes_no_figure(each: Measurement) -> None:
    ((_, y),) = _steps(each)
    lain = each.read(experiments.exact(each.layer, np.asfortranarray(y)))
    assert lain == each.read(experiments.exact(each.layer, y))


def test_a_layer_whose_whole_numbers_are_not_known_is_refused() -> None:
    with pytest.raises(TypeError, match="not known"):
        experiments.exact(spec.Dense(1, 1), np.zeros((1, 1)))


# --- what a faulty kernel gives ----------------------------------------------------------------

BACKENDS = """
import numpy as np

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import AveragePool, Conv, Dense, LpPool, MaxPool, ReLU


class Partly(NumPy):
    def build(self, layer, weights):
        if isinstance(layer, LpPool):
            raise Unsupported("there is no norm")
        return super().build(layer, weights)

    def parameters(self, layer):
        raise Unsupported("nothing is counted")

    def output_shape(self, layer, shape):
        raise Unsupported("no shape is stated")


class Faulty(NumPy):
    def build(self, layer, weights):
        run = super().build(layer, weights)
        match layer:
            case MaxPool():  # of the corners alone
                return lambda x: x[:, :: layer.stride[0], :: layer.stride[1]]
            case LpPool():
                return lambda x: np.asarray(run(x)) / np.asarray(2, x.dtype)
            case Conv(padding="same"):
                return lambda x: np.asarray(run(x)) * np.asarray(2, x.dtype)
            case Dense():
                return lambda x: -np.asarray(run(x))
        return run

    def parameters(self, layer):
        return super().parameters(layer) + isinstance(layer, Dense)
"""


def asked(folder: Path, name: str) -> records.Run:
    """Return the record of what one of the backends was asked about the claims."""
    (folder / "backends.py").write_text(BACKENDS, "utf-8")
    words = [
        sys.executable, "-m", "pytest", f"{ROOT}/conformance/test_claims.py", "--profile=quick",
        f"--backend=backends.py:{name}", "--record=verdicts.jsonl", "-q", "--in-process",
        "-p", "no:cacheprovider", "--rootdir", str(ROOT),
    ]  # fmt: skip
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert (folder / "verdicts.jsonl").exists(), done.stdout + done.stderr
    return records.read(folder / "verdicts.jsonl")


def test_each_experiment_shows_a_faulty_kernel_and_what_it_gives(tmp_path: Path) -> None:
    made = asked(tmp_path, "Faulty")
    failing = {v.question.partition("::test_")[2]: v for v in made.verdicts}
    assert {name: v.verdict for name, v in failing.items()} == dict.fromkeys(
        experiments.SAYS, "fail"
    )
    blamed = {
        name: {v.layer, *(o.case["layers"][0]["type"] for o in v.others if o.case)}
        for name, v in failing.items()
    }
    assert blamed["shift"] == {"MaxPool"}  # twice the output stays as often as the output
    assert blamed["noise"] == {"MaxPool", "LpPool"}
    assert blamed["reads"] == {"Conv"}
    assert failing["shift"].message.startswith("shift: max pooling is 3")
    assert ": at (" in failing["shift"].message
    assert failing["costs"].failure
    assert failing["costs"].failure.effect == "count"
    told = {t.trait: t.value for t in made.traits}
    assert told["reads: centre with padding"] == f"{8 * 729:,}"
    assert told["shift: average pooling"].startswith("1.1%")


def test_what_a_subject_lacks_is_all_that_is_missing(tmp_path: Path, figures: Figures) -> None:
    made = asked(tmp_path, "Partly")
    assert {v.verdict for v in made.verdicts} == {"pass"}
    told = {t.trait: t.value for t in made.traits}
    lacking = {n for n in figures if "L2" in n or "parameters" in n or "bytes" in n}
    assert told == {n: figure.text for n, figure in figures.items() if n not in lacking}


def test_a_claim_that_a_figure_contradicts_is_named(figures: Figures) -> None:
    assert test_claims.different(figures, figures) == ""
    name = "shift: max pooling"
    less = {name: experiments.share(0, 1)}
    said = test_claims.different(less, figures)
    assert said.startswith(f"{name} is 0.0% (0 of 1), not {figures[name].text}, against ")
    assert "pool.max.shift-often" in said
    more = {name: experiments.share(3, 10)}
    assert test_claims.different(more, figures) == f"{name} is 30.0% (3 of 10), not " + (
        figures[name].text
    )


# --- what reports show -------------------------------------------------------------------------


def _figure(subject: str, name: str, value: str) -> Trait:
    return Trait(subject, name, value, {"at": "MaxPool"}, experiment="How it is measured.")


SHIFTED = run(
    verdict(subject="a"),
    verdict(subject="b"),
    verdict(subject="c"),
    traits=(
        *(_figure(s, "shift: max pooling", "25.4% (831 of 3,278)") for s in ("a", "b", "c")),
        *(_figure(s, "shift: convolution", "0.9% (9 of 1,000)") for s in ("a", "b")),
        _figure("c", "shift: convolution", "1.0% (10 of 1,000)"),
        _figure("a", "predictions: kept", "70.2% (562 of 800)"),
        Trait("a", "flatten order", "spatial axes, then channels", {}),
    ),
)


def test_a_claim_has_the_figures_of_each_subject_once() -> None:
    told = {claim.id: claim for claim in claims.claims(SHIFTED, load())}
    assert told.keys() == {c.id for c in CLAIMS if any("shift: " in name for name in c.figures)}
    robust = told["pool.robust"]
    assert not robust.holds
    assert [(m.text, m.subjects) for m in robust.measured] == [
        ("shift: convolution 0.9%, max pooling 25.4%", ("a", "b")),
        ("shift: convolution 1.0%, max pooling 25.4%", ("c",)),
        ("predictions: kept 70.2%", ("a",)),
    ]


def test_figures_are_no_choices() -> None:
    rows = [row[0].text for table in tables.tables(SHIFTED) for row in table.rows]
    assert "flatten order" in rows
    assert "shift: max pooling" not in rows
    (topic,) = topics.topics(SHIFTED)
    assert topic.name == "flatten order"


def test_every_format_shows_claims_experiments_and_figures() -> None:
    for form in ("table", "markdown", "html"):
        text = " ".join(render.render(SHIFTED, form).split())
        assert "How it is measured." in text
        assert "70.2%" in text
        assert "not hold" in text
    told, how = claims.tables(SHIFTED)
    (row,) = (row for row in told.rows if row[0].text == load().clauses["pool.robust"].says)
    assert row[1].text.startswith("does not hold: ")
    assert row[2].text == (
        "shift: convolution 0.9%, max pooling 25.4% (a, b); "
        "shift: convolution 1.0%, max pooling 25.4% (c); predictions: kept 70.2% (a)"
    )
    assert [row[0].text for row in how.rows] == ["shift", "predictions"]
    data = json.loads(render.render(SHIFTED, "json"))
    assert [c["id"] for c in data["claims"]] == [c.id for c in claims.claims(SHIFTED, load())]
    (shift, predictions) = data["experiments"]
    assert shift["figures"]["convolution"] == [
        {"text": "0.9% (9 of 1,000)", "subjects": ["a", "b"]},
        {"text": "1.0% (10 of 1,000)", "subjects": ["c"]},
    ]
    assert predictions == {
        "name": "predictions",
        "says": "How it is measured.",
        "figures": {"kept": [{"text": "70.2% (562 of 800)", "subjects": ["a"]}]},
    }


def test_a_run_without_figures_shows_no_claims() -> None:
    assert claims.tables(run(verdict())) == []
    assert "None was asked about." in render.render(run(verdict()), "html")


def test_a_statement_says_what_was_found_of_it() -> None:
    told = statements.sections(SHIFTED, load())
    by_id = {c.id: c for section in told for c in section.statements if c.first}
    for claim in CLAIMS:
        statement = by_id[claim.id]
        assert statement.holds == claims.outcome(claim)
        assert statement.reason == claim.reason
        assert statement.formula == "; ".join(order.text for order in claim.order)
        assert claim.holds != statement.holds.startswith("does not hold: ")
