"""Recorded divergences: what explains a failure, what does not, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scripts

from cnnformance.adapters import registry
from cnnformance.adapters.backend import Array
from cnnformance.adapters.registry import Target
from cnnformance.adapters.subject import Subject
from cnnformance.adapters.supervision import Info
from cnnformance.conformance import divergences
from cnnformance.conformance.divergence_predicates import holds
from cnnformance.conformance.judge import Call, Failure
from cnnformance.spec import layers as spec
from cnnformance.spec.expressions import ExpressionError
from cnnformance.spec.reading import DataError

ENTRY = """
[[known]]
id = "x.lowest"
class = "fault"
layers = ["MaxPool"]
effects = ["not-finite"]
when = "expected == -inf and actual == lowest"
versions = ">=2.0,<3"
says = "starts from the lowest finite number"
seen = 2026-11-22
"""


def subject(version: str) -> Subject:
    return Subject(Target("x", "x:X"), info=Info(version))


def failure(actual: str = "-3.4028234663852886e+38") -> Failure:
    x = np.full((1, 2, 1), -np.inf, np.float32)
    layer = spec.MaxPool((2,))
    return Failure(
        "not-finite", "m", expected="-inf", actual=actual, arrays={"x": x}, layers=(layer,)
    )


@pytest.mark.parametrize(
    ("layer", "size", "spare"),
    [
        (spec.MaxPool((2,), (5,), "same"), 7, False),
        (spec.MaxPool((2,), (5,), "same"), 8, True),
        (spec.MaxPool((2,), (5,), "same", (4,)), 10, False),
        (spec.Conv((1,), stride=(3,), padding="same_lower"), 3, True),
        (spec.MaxPool((1,), (3,)), 3, False),
        (spec.ReLU(), 3, False),
    ],
)
def test_windows_of_same_may_end_before_the_input(
    layer: spec.Layer, size: int, spare: bool
) -> None:
    x = np.zeros((1, size, 1), np.float32)
    found = divergences.names_of(Failure("value", "m", arrays={"x": x}, layers=(layer,)))
    assert found["spare"] is spare


def test_an_entry_explains_its_own_failure_alone() -> None:
    entries = divergences.Divergences(divergences.parse(ENTRY, "x.toml"))

    assert entries.match(subject("2.21.0"), failure()) == "x.lowest"
    assert not entries.match(subject("3.0"), failure())
    assert not entries.match(subject("2.21.0"), failure(actual="7.0"))


def overhanging(factor: float, call: Call, layer: spec.Pool, share: float = 1.0) -> Failure:
    """Return a failure of ``factor`` at the last of five cells, where windows are three long.

    ``share`` is the right gradient there, for ones upstream.
    """
    x = np.array([1, 2, 4, 3, 4], np.float64).reshape(1, 5, 1)
    arrays = {"x": x}
    index, right = (0, 1, 0), 5.0
    if call == "gradients":
        arrays["upstream"], index, right = np.ones((1, 2, 1)), (0, 4, 0), share
    said = "the gradient for input" if call == "gradients" else "m"
    return Failure("value", said, index=index, expected=repr(right), actual=repr(right * factor),
                   bound="1e-15", arrays=arrays, layers=(layer,), call=call)  # fmt: skip


NORM = spec.LpPool((3,), ceil_mode=True)
MEAN = spec.AveragePool((3,), ceil_mode=True, count_include_pad=True)


@pytest.mark.parametrize(
    ("mode", "call", "layer", "factor", "found"),
    [
        ("", "forward", NORM, (3 / 2) ** 0.5, "torch.lp-ceil-mode-scales-overhang"),
        ("compile", "forward", NORM, (3 / 2) ** 0.5, "torch.lp-ceil-mode-scales-overhang"),
        ("", "forward", NORM, 3.0, ""),
        ("", "forward", NORM, (2 / 3) ** 0.5, ""),
        ("", "gradients", NORM, (3 / 2) ** 0.5, "torch.lp-ceil-mode-scales-overhang"),
        ("", "gradients", NORM, (2 / 3) ** 0.5, ""),
        ("compile", "gradients", NORM, (2 / 3) ** 0.5, "torch.compiled-lp-gradient-in-ceil-mode"),
        ("compile", "gradients", NORM, 3.0, ""),
        ("compile", "gradients", MEAN, 2 / 3, "torch.compiled-average-gradient-in-ceil-mode"),
        ("compile", "gradients", MEAN, 3 / 2, ""),
        ("", "gradients", MEAN, 2 / 3, ""),
        ("compile", "forward", MEAN, 2 / 3, ""),
    ],
)
def test_torch_is_excused_the_values_of_its_overhanging_windows_alone(
    mode: str, call: Call, layer: spec.Pool, factor: float, found: str
) -> None:
    failing = overhanging(factor, call, layer, share=0.8 if layer is NORM else 0.5)
    asked = Subject(Target("torch", "x:X", mode), info=Info("2.13.0"))
    assert divergences.load_divergences("torch").match(asked, failing) == found


@pytest.mark.parametrize(("actual", "found"), [(-1.0, True), (3.0, False)])
def test_an_odd_power_is_excused_the_sum_that_keeps_signs_alone(actual: float, found: bool) -> None:
    x = np.array([1.0, -2.0], np.float32).reshape(1, 2, 1)
    failing = Failure("value", "m", index=(0, 0, 0), expected="3.5", actual=repr(actual),
                      arrays={"x": x}, layers=(spec.LpPool((2,), p=1),))  # fmt: skip
    asked = Subject(Target("torch", "x:X"), info=Info("2.13.0"))
    assert bool(divergences.load_divergences("torch").match(asked, failing)) is found


def test_a_norm_of_integers_is_what_no_other_definition_foretells() -> None:
    x = np.ones((1, 2, 1), np.int8)
    failing = Failure("value", "m", index=(0, 0, 0), expected="1.4", actual="1.0",
                      arrays={"x": x}, layers=(spec.LpPool((2,)),))  # fmt: skip
    assert holds("not as_power_mean", divergences.names_of(failing))


THIRD = np.full((1, 3, 1), 1 / 3)


@pytest.mark.parametrize(
    ("layer", "x", "actual", "found"),
    [
        (spec.GlobalAveragePool(1), THIRD, float(np.float32(1 / 3)), True),
        (spec.GlobalAveragePool(1), THIRD, 0.3333, False),
        (spec.GlobalAveragePool(1), THIRD, 0.0, False),
        (spec.GlobalAveragePool(1), THIRD, np.inf, False),
        (spec.GlobalAveragePool(1), THIRD * 1e39, np.inf, True),
        (spec.GlobalMaxPool(1), THIRD, float(np.float32(1 / 3)), True),
        (spec.GlobalMaxPool(1), THIRD, float(np.float32(1 / 3)) + 1e-8, False),
        (spec.GlobalAveragePool(1), THIRD.astype(np.float32), 1 / 3, False),
    ],
)
def test_float64_is_excused_what_float32_gives_alone(
    layer: spec.Layer, x: Array, actual: float, found: bool
) -> None:
    failing = Failure("value", "m", index=(0, 0), expected=repr(1 / 3), actual=repr(actual),
                      arrays={"x": x}, layers=(layer,))  # fmt: skip
    assert holds("as_float32", divergences.names_of(failing)) is found


def test_a_gradient_of_float64_is_excused_what_float32_gives_alone() -> None:
    arrays = {"x": THIRD, "upstream": np.full((1, 1), 1 / 7)}
    for actual, found in ((float(np.float32(1 / 21)), True), (0.0476, False)):
        failing = Failure("value", "m", index=(0, 0, 0), expected=repr(1 / 21),
                          actual=repr(actual), arrays=arrays, operand="input", call="gradients",
                          layers=(spec.GlobalAveragePool(1),))  # fmt: skip
        assert holds("as_float32", divergences.names_of(failing)) is found


def test_predicates_speak_of_the_call_and_of_the_ratio() -> None:
    names = divergences.names_of(overhanging(3.0, "gradients", NORM))
    assert holds("call == 'gradients' and ratio == 3.0", names)
    single = Failure("value", "m", expected="0.0", actual="1.0")
    assert divergences.names_of(single)["ratio"] is None


@pytest.mark.parametrize(
    ("version", "ranges", "fits"),
    [
        ("2.14.0rc1", ">=2.14.0", False),
        ("2.14.0rc1", ">=2.13,<2.15", True),
        ("3.0.dev20260101", ">=2.13,<3", False),
        ("2.14.0-rc0", ">=2.14.0rc0", True),
        ("2.13.0+cpu", "==2.13.0", True),
        ("2.13.0+cpu", "<=2.13", True),
        ("2.13.0.post1", ">2.13.0", False),
        ("2.9", ">=2.10", False),
        ("3.15.1 on tensorflow 2.21.0", ">=3.15,<3.16", True),
        ("2.21.0, Keras 3.15.1", ">=2.21,<2.22", True),
        ("unknown", ">=0", False),
        ("unknown", "", True),
        ("", "", True),
        ("2.13", "~=2.12", True),
    ],
)
def test_versions_are_compared_as_pep_440_says(version: str, ranges: str, fits: bool) -> None:
    assert divergences.in_range(version, ranges) is fits


def test_an_effect_by_its_name_of_before_is_read() -> None:
    (entry,) = divergences.parse(ENTRY.replace("not-finite", "special"), "x.toml")

    assert entry.effects == ("not-finite",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "x.lowest"', 'id = "x.lowest"\nname = "x"', "x.lowest.name: is unknown"),
        ('id = "x.lowest"', "", "known[0].id: is missing"),
        ('class = "fault"', 'class = "bug"', "x.lowest.class: 'bug' is none of 'fault'"),
        ('"MaxPool"', '"MaxPol"', "x.lowest.layers[0]: 'MaxPol' is none of MaxPool"),
        ('["MaxPool"]', '"MaxPool"', "x.lowest.layers: needs a list, not 'MaxPool'"),
        ('["not-finite"]', '["wrong"]', "x.lowest.effects[0]: 'wrong' is none of"),
        ('">=2.0,<3"', "2", "x.lowest.versions: needs a text, not 2"),
        ("[[known]]", "[known]", "known: needs a list, not {"),
        ("actual == lowest", "actual == lowst", "lowst"),
        ("actual == lowest", "__import__('os')", "not allowed"),
        (">=2.0,<3", "about 2", "x.lowest.versions: 'about 2' holds no bounds"),
        ("[[known]]", "[[knwn]]", "x.toml: knwn: is unknown"),
        ("[[known]]", "[[known", "x.toml: syntax: "),
        ("[[known]]", f"known = {'[' * 3000}", "x.toml"),
        ("[[known]]", f"known = {'9' * 5000}", "x.toml"),
        ('["MaxPool"]', "[]", "x.lowest.layers: is empty"),
        ('["not-finite"]', "[]", "x.lowest.effects: is empty"),
        ('id = "x.lowest"', 'id = ""', "known[0].id: is empty"),
        (">=2.0,<3", ">=a", ">=a"),
        ("2026-11-22", '"2026-11-22"', "x.lowest.seen: needs a date such as 2026-01-31"),
        ('"x.lowest"', "3", "known[0].id: needs a text, not 3"),
        ("class =", 'link = "javascript:1"\nclass =', "x.lowest.link: needs an address such as"),
        ("actual == lowest", "has_inf and actual[0]", "not allowed"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(old: str, new: str, said: str) -> None:
    with pytest.raises(DataError, match=r"x\.toml") as error:
        divergences.parse(ENTRY.replace(old, new), "x.toml")

    assert said in str(error.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('id = "x.lowest"', f'id = "{"x" * 10**4}"\ntwo = 2'),
        ('"fault"', f'"{"x" * 10**4}"'),
        ('"MaxPool"', f'"{"x" * 10**4}"'),
        ("actual == lowest", "x" * 10**4),
        ("actual == lowest", "'\u202e' == lowst"),
        (">=2.0,<3", "x" * 10**4),
        ("2026-11-22", f"{10**3999}"),
        ("seen", '"\\u001b[2J\\n"'),
    ],
    ids=["id", "class", "layers", "long when", "when", "versions", "seen", "key"],
)
def test_a_refusal_is_one_short_line(old: str, new: str) -> None:
    with pytest.raises(DataError) as error:
        divergences.parse(ENTRY.replace(old, new), "x.toml")
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("{}/mine.py:Mine", "mine.toml"),
        ("{}/mine.py:Mine:fast@cuda", "mine.toml"),
        ("{}/other.py:Mine", ""),
        ("a_package.backend:Mine", "a_package/backend.toml"),
        ("a_module:Mine", "a_module.toml"),
        ("an_absent.module:Mine", ""),
    ],
)
def test_the_file_lies_beside_the_module_which_is_not_imported(
    target: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_package").mkdir()
    for name in ("mine", "other", "a_package/__init__", "a_package/backend", "a_module"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit", encoding="utf-8")
    for name in ("mine", "a_package/backend", "a_module"):
        (tmp_path / f"{name}.toml").write_text(ENTRY, encoding="utf-8")

    found = registry.divergences(registry.parse(target.format(tmp_path)))

    assert found == (tmp_path / file if file else None)


def test_the_files_of_the_project_are_well_formed() -> None:
    files = list((Path(divergences.__file__).parents[1] / "adapters").glob("*.toml"))

    assert files
    for file in files:
        entries = file.read_text(encoding="utf-8").count("[[known]]")  # or environments alone
        assert len(divergences.load_divergences(file.stem).divergences) == entries


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("max(window) >= 3 and not ceil_mode", True),
        ("padding == 'same'", False),
        ("stride == (2, 1)", True),
        ("p > 2", False),
        ("1 // 0 == 1", False),
        ("max(padding) == 1", False),
        ("'a' * 999999999 == p", False),
        ("'%c' % 3 == p", False),
        ("len(window) % 2 == 0 or prod(stride) - 2 > abs(-1)", True),
    ],
)
def test_predicates(text: str, value: bool) -> None:
    names = {"window": (2, 3), "ceil_mode": False, "padding": (), "stride": (2, 1), "p": None}

    assert holds(text, names) is value


@pytest.mark.parametrize("text", [
    "window.__class__", "[1]", "lambda: 1", "open('x')", "max == 1", "len(1, 2)", "1 +", "x",
    "False and window[0]",
    "False and max(window, key=len)", "2**9", "f'{window}'", "None",
])  # fmt: skip
def test_what_is_no_predicate_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        holds(text, {"window": (2,)})


def test_each_divergence_has_a_question_whose_script_shows_it() -> None:
    assert set(scripts.table()) == scripts.recorded()  # `make scripts` runs them
