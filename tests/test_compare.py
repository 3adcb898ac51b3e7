"""A comparison sees what two subjects do otherwise, that alone, and what to write instead."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cnnformance.__main__ import main
from cnnformance.adapters import registry
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import comparing
from cnnformance.conformance.contrast import Both, Side, probe
from cnnformance.conformance.equivalents import equivalent
from cnnformance.conformance.scratch import Scratch, ScriptFailed
from cnnformance.conformance.topics import measured
from cnnformance.reference import forward
from cnnformance.reports import compare_render
from cnnformance.reports.compare import Code, Comparison, Instance, Party, Row
from cnnformance.reports.records import Footer, Header, Trait, Verdict, Writer
from cnnformance.reports.records import Subject as Recorded
from cnnformance.spec.layers import AdaptiveMaxPool, AveragePool, Conv, GlobalMaxPool, MaxPool
from cnnformance.spec.layers import Layer

CORPUS = Path(__file__).parent / "corpus"
HONEST = f"{CORPUS}/kernels.py:Honest"


def _both(one: str, other: str, **options: object) -> Both:
    first, second = (
        Side(name, "", Subject(registry.parse(name), **options))  # type: ignore[arg-type]
        for name in (one, other)
    )
    for side in (first, second):
        assert side.subject
        side.subject.start()
    return Both((first, second))


@cache
def _rows(other: str) -> dict[str, Row]:
    """Return the rows of an honest backend and another, both in this process."""
    both = _both(HONEST, f"{CORPUS}/{other}", in_process=True)
    try:
        return {topic.name: measured(topic, both) for topic in comparing.TOPICS}
    finally:
        both.close()


def _apart(rows: dict[str, Row]) -> set[str]:
    return {name for name, row in rows.items() if row.status == "differs"}


ALONE = {
    "porting.py:SameLower": "padding",
    "porting.py:SameBothSides": "padding",
    "porting.py:CountsPadding": "averages",
    "porting.py:RoundsDown": "rounding",
    "porting.py:KeepsTheLastWindow": "rounding",
    "porting.py:DividesByTheWindow": "rounding",
    "porting.py:Undilated": "dilation",
    "porting.py:FlattensChannelsFirst": "flatten",
    "porting.py:HalfSums": "halves",
    "porting.py:NoMinPool": "offers",
    "porting.py:RefusesEmptyBatches": "empty",
    "correct.py:NaNIgnored": "special",
    "correct.py:SplitTie": "gradients",
    "correct.py:LastTie": "gradients",
    "correct.py:HalfAtZero": "gradients",
    "correct.py:Float32Only": "offers",
}


@pytest.mark.parametrize("other", ALONE)
def test_what_differs_is_seen_and_nothing_else(other: str) -> None:
    rows = _rows(other)
    assert _apart(rows) == {ALONE[other]}
    row = rows[ALONE[other]]
    assert row.example
    one, two = row.example.answers
    assert one != two
    measured_rows = {name for name, row in rows.items() if row.status != "unknown"}
    assert measured_rows == rows.keys() - {"defaults"}  # these backends write no scripts


@pytest.mark.parametrize(
    "other", [f"correct.py:{n}" for n in ("SequentialSum", "BlockedSum", "FusedSum", "ShuffledSum")]
)
def test_other_orders_of_summation_are_rounding_and_no_difference(other: str) -> None:
    rows = _rows(other)
    assert not _apart(rows)
    assert rows["plain"].status == "rounding"
    assert "of the proven bound" in rows["plain"].says[1]


def test_equal_subjects_are_the_same_in_every_topic() -> None:
    rows = _rows("kernels.py:Honest")
    assert {row.status for name, row in rows.items() if name != "defaults"} == {"same"}
    assert not any(row.example or row.code for row in rows.values())


def test_channels_first_is_a_matter_of_layout_and_of_flattening() -> None:
    rows = _rows("correct.py:ChannelsFirst")
    assert _apart(rows) == {"layout", "flatten"}
    assert "transpose" in rows["layout"].code[0].source


def test_the_sizes_of_the_pooling_that_converters_disagree_on_are_told() -> None:
    says = _rows("porting.py:RoundsDown")["rounding"].says
    assert "become 55 rounded down, 56 rounded up" in says[0]
    assert "57 rounded up with padding (1, 1)" in says[0]
    assert "become 55 rounded down, 55 rounded up" in says[1]


def test_the_pads_of_a_word_are_told() -> None:
    row = _rows("porting.py:SameLower")["padding"]
    assert "pads (0, 1) by 'same'" in row.says[0]
    assert "pads (1, 0) by 'same'" in row.says[1]
    assert "window 3 stride 1 on 3 cells" in row.where("same")
    assert "window 3 stride 2 on 4 cells" in row.where("differs")


def test_the_divisor_at_a_corner_is_told() -> None:
    row = _rows("porting.py:CountsPadding")["averages"]
    assert "divided by 4" in row.says[0]
    assert "divided by 9" in row.says[1]


def test_a_crash_is_the_behaviour_and_costs_its_row_alone() -> None:
    both = _both(HONEST, f"{CORPUS}/porting.py:DiesOfLargeWindows")
    try:
        rows = {topic.name: measured(topic, both) for topic in comparing.TOPICS}
    finally:
        both.close()
    assert _apart(rows) == {"empty"}
    assert "died by SIGFPE" in rows["empty"].says[1]


def test_a_hang_costs_its_row_alone() -> None:
    both = _both(HONEST, f"{CORPUS}/porting.py:HangsOnDilation", seconds=1.0)
    try:
        names = ("dilation", "special", "plain")
        rows = [measured(t, both) for t in comparing.TOPICS if t.name in names]
    finally:
        both.close()
    assert [row.status for row in rows] == ["differs", "same", "same"]
    assert "no answer within 1 s" in rows[0].says[1]


EQUIVALENT: list[tuple[Layer, tuple[int, ...]]] = [
    (MaxPool((3,), (2,), "same"), (1, 4, 1)),
    (MaxPool((3,), (2,), ((1, 1),)), (1, 5, 1)),
    (MaxPool((2, 3), (2, 2), (), (), ceil_mode=True), (1, 5, 6, 2)),
    (MaxPool((3,), (3,), ((1, 1),), ceil_mode=True), (1, 2, 1)),
    (AveragePool((2,), (2,), ceil_mode=True), (1, 3, 1)),
    (AveragePool((3, 3), (1, 1), "same_lower"), (1, 4, 4, 1)),
    (GlobalMaxPool(2), (2, 3, 4, 2)),
    (AdaptiveMaxPool((2, 2)), (1, 4, 6, 1)),
]


@pytest.mark.parametrize(("layer", "shape"), EQUIVALENT, ids=lambda each: str(each))
def test_equivalent_layers_compute_the_same(layer: Layer, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float64)
    written = list(equivalent(layer, shape, {}))
    assert len(written) > 1
    for other, weights, after in written:
        names = {"y": forward(other, x, weights)}
        exec("\n".join(after), names)  # noqa: S102 - the lines under test
        np.testing.assert_array_equal(names["y"], forward(layer, x))


def test_a_dilated_kernel_is_one_with_zeros() -> None:
    rng = np.random.default_rng(0)
    layer = Conv((2, 3), (2, 1), "same", (2, 3), 2, 3)
    weights = {name: rng.integers(-3, 4, s).astype(float) for name, s in layer.weight_shapes().items()}
    x = rng.integers(-9, 9, (1, 7, 8, 2)).astype(float)
    others = list(equivalent(layer, x.shape, weights))
    assert {other.dilation for other, _, _ in others if isinstance(other, Conv)} == {(2, 3), (1, 1)}
    for other, held, _ in others:
        np.testing.assert_array_equal(forward(other, x, held), forward(layer, x, weights))


def test_a_script_that_fails_is_told_and_the_next_one_runs() -> None:
    scratch = Scratch(seconds=2.0)
    try:
        scratch.begin("y = 1")
        assert scratch.run("y = 2", "y") == 2
        for source, said in {
            "raise ValueError('no')": "ValueError: no",
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "died by SIGSEGV",
            "while True: pass": "no answer in 2 s",
            "import os; os._exit(3)": "ended with 3",
        }.items():
            with pytest.raises(ScriptFailed, match=said):
                scratch.run(source, "y")
        assert scratch.run("y = {'a': 1}", "y") == {"a": 1}
    finally:
        scratch.close()


# Records


def _record(folder: Path, name: str, version: str, *traits: str) -> Path:
    path = folder / name / "verdicts.jsonl"
    with Writer(path) as writer:
        writer.write(
            Header(
                started="2026-01-02T03:04:05Z",
                cnnformance="0.1.0",
                python="3.11.7",
                numpy="2.4.6",
                platform="Linux",
                profile="quick",
                seed=0,
                planned=1,
                subjects=(Recorded("gone", version),),
            )
        )
        writer.write(Verdict("gone", "q", "MinPool", ("a",), "document", "float16", "unsupported"))
        for value in traits:
            writer.write(Trait("gone", "NaN in maximum and minimum", value, {"place": "MaxPool"}))
        writer.write(Footer("2026-01-02T03:04:09Z", 4.0, 1))
    return path


def test_two_versions_are_compared_by_their_records(tmp_path: Path) -> None:
    one = _record(tmp_path, "old", "1.0", "propagated")
    other = _record(tmp_path, "new", "2.0", "ignored")
    found = comparing.compare(("gone", "gone"), [str(one), str(other)], tmp_path)
    assert found.names == ("gone 1.0", "gone 2.0")
    rows = {row.topic: row for row in found.rows}
    assert rows["special"].status == "differs"
    assert rows["special"].recorded == (("NaN in maximum and minimum", "propagated", "ignored"),)
    assert {r.status for n, r in rows.items() if n not in ("special", "offers")} == {"unknown"}


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    try:
        assert main(["compare", *arguments]) == 2
    except SystemExit as ended:
        assert ended.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_wrong_words_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(_record(tmp_path, "old", "1.0"))
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text("{}\n")
    assert "required: SUBJECT" in _fails(capsys, "numpy")
    assert "no backend is called 'nonesuch'" in _fails(capsys, "numpy", "nonesuch")
    assert "compared with itself" in _fails(capsys, "numpy", "numpy")
    assert "no subject 'numpy'; it has gone" in _fails(capsys, "gone", "numpy", "--run", run)
    assert "run again" in _fails(capsys, "gone", "numpy", "--run", str(damaged))
    assert "no such file" in _fails(capsys, "gone", "numpy", "--run", "nowhere")
    assert "at most twice" in _fails(capsys, "a", "b", *["--run", run] * 3)
    assert "has no mode 'nonesuch'" in _fails(capsys, "numpy:nonesuch", HONEST)
    assert "invalid choice" in _fails(capsys, "numpy", HONEST, "--format", "table")
    damaged.rename(tmp_path / "verdicts.jsonl")
    folder = tmp_path / ".cnnformance" / "newest"
    folder.mkdir(parents=True)
    shutil.move(tmp_path / "verdicts.jsonl", folder)
    assert "run again" in _fails(capsys, "numpy", HONEST)


# Formats

HOSTILE = "<script>alert(1)</script> | `x` \x1b[31m ```\n# head"


def _hostile() -> Comparison:
    instance = Instance(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,) * 2, (HOSTILE, "other"), "differs")
    code = Code(HOSTILE, HOSTILE, HOSTILE, f"x = '{HOSTILE}'", HOSTILE)
    failed = Code(HOSTILE, HOSTILE, HOSTILE, why=HOSTILE)
    told = ((HOSTILE, HOSTILE, "other"),)
    row = Row("t", HOSTILE, "differs", (HOSTILE,) * 2, instance, (instance,), (code, failed), told)
    rows = (row, dataclasses.replace(row, status="unknown"), dataclasses.replace(row, status="same"))
    return Comparison((Party(HOSTILE, HOSTILE, HOSTILE),) * 2, rows, (HOSTILE,))


@pytest.mark.parametrize("form", compare_render.FORMATS)
def test_hostile_text_is_text(form: str) -> None:
    shown = compare_render.render(_hostile(), form)
    assert "\x1b" not in shown
    match form:
        case "html":
            assert "<script" not in shown
            assert "&lt;script&gt;alert(1)" in shown
        case "markdown":
            outside = "".join(shown.split("````python")[0::2])
            assert "<script" not in outside
            assert not [line for line in outside.splitlines() if line.startswith("# head")]
        case "json":
            assert json.loads(shown)["rows"][0]["title"] == HOSTILE


def test_every_format_tells_the_same(tmp_path: Path) -> None:
    rows = _rows("porting.py:SameLower")
    parties = (Party("one", "1", "asked here"), Party("other", "2", "asked here"))
    found = Comparison(parties, tuple(rows.values()), ("a note",))
    shown = {form: compare_render.render(found, form) for form in compare_render.FORMATS}
    for form, text in shown.items():
        assert "padding that keeps the size" in text, form
        assert "window 3 stride 2 on 4 cells" in text, form
        assert "a note" in text, form
    assert "13 topics: 1 differ, 11 agree, 1 cannot be measured." in shown["text"]
    assert [r["status"] for r in json.loads(shown["json"])["rows"]].count("differs") == 1
    del tmp_path


# Frameworks


@pytest.fixture(scope="module")
def frameworks(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Return the comparison of PyTorch and TensorFlow: measured once, in less than two minutes."""
    for name in ("torch", "tensorflow"):
        if not registry.importable(name):
            pytest.skip(f"needs {name}")
    return comparing.compare(("torch", "tensorflow"), [], tmp_path_factory.mktemp("empty"))


def _row(found: Comparison, topic: str) -> Row:
    return next(row for row in found.rows if row.topic == topic)


def _codes(found: Comparison) -> Iterator[Code]:
    return (code for row in found.rows for code in row.code if code.source)


def test_what_is_to_be_written_instead_runs_and_gives_the_others_result(
    frameworks: Comparison, tmp_path: Path
) -> None:
    codes = list(_codes(frameworks))
    assert {code.subject for code in codes} == {"torch", "tensorflow"}
    assert len(codes) > 12
    for name in ("torch", "tensorflow"):  # one process each: the import takes longest
        sources = [(c.source, c.gave) for c in codes if c.subject == name]
        (tmp_path / "sources.json").write_text(json.dumps(sources))
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", _RUNS, "sources.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]


_RUNS = """
import json, sys
import numpy as np
from cnnformance.conformance.contrast import brief
from cnnformance.conformance.topics_layout import held
for source, gave in json.load(open(sys.argv[1])):
    names = {"__name__": "__main__"}
    exec(source, names)
    if "shapes" in names:
        assert f"shapes {names['shapes']}" == gave, source
        continue
    y = names["gradients"]["input"] if "gradients" in names else names["y"]
    # the suite's order of axes: of one channel and one sample both are read the same
    assert brief(np.asarray(y).reshape(-1)) in gave.replace("[[", "[").replace("]]", "]") or (
        brief(np.squeeze(y)) == brief(np.asarray(eval(gave, {"nan": np.nan, "inf": np.inf}), y.dtype))
    ), (source, gave, y)
"""


def test_same_padding_differs_at_stride_two_and_not_at_one(frameworks: Comparison) -> None:
    """keras#19291."""
    row = _row(frameworks, "padding")
    assert "Conv window 3 stride 2 on 4 cells" in [i.name for i in row.instances if i.agreement == "differs"]
    assert "Conv window 3 stride 1 on 3 cells" in [i.name for i in row.instances if i.agreement == "same"]
    assert "ConstantPad1d((0, 1)" in next(c.source for c in row.code if c.subject == "torch")


def test_averages_at_borders_are_divided_by_9_or_by_4(frameworks: Comparison) -> None:
    """MMdnn#628."""
    row = _row(frameworks, "averages")
    assert "divided by 9 (its default, count_include_pad=True)" in row.says[0]
    assert "as it comes; AveragePool 3x3 with padding 'same': a corner of 4 cells is divided by 4" in row.says[1]
    assert len([code for code in row.code if code.source]) == 2


def test_the_first_dense_layer_after_a_flatten_is_permuted(frameworks: Comparison) -> None:
    """MMdnn#250."""
    row = _row(frameworks, "flatten")
    dense = next(i for i in row.instances if i.of == "Dense")
    assert dense.agreement == "differs"
    gave = [code.gave for code in row.code]
    assert gave == list(dense.answers)


def test_a_pooling_comes_to_55_56_or_57_cells(frameworks: Comparison) -> None:
    """onnx2caffe#3; that a last window in the padding is dropped is pytorch#131272."""
    row = _row(frameworks, "rounding")
    assert "become 55 rounded down, 56 rounded up" in row.says[0]
    assert "57 rounded up with padding (1, 1)" in row.says[0]
    assert "not offered rounded up" in row.says[1]
    dropped = next(i for i in row.instances if "window 3 stride 3" in i.where and i.of == "MaxPool")
    assert dropped.answers[0] == "[2]"


def test_other_last_digits_are_rounding(frameworks: Comparison) -> None:
    """keras#20804."""
    row = _row(frameworks, "plain")
    assert row.status == "rounding"
    assert not row.code


def test_defaults_are_those_of_the_signatures(frameworks: Comparison) -> None:
    row = _row(frameworks, "defaults")
    told = {i.name: (i.layers, i.answers) for i in row.instances}
    assert told["MaxPool stride"][0] == (
        "nn.MaxPool1d(stride=None)",
        "keras.layers.MaxPooling1D(strides=None)",
    )
    assert all("12 cells become 4" in answer for answer in told["MaxPool stride"][1])
    assert told["Conv bias"][0] == ("nn.Conv1d(bias=True)", "keras.layers.Conv1D(use_bias=True)")
    assert "float32" in told["ReLU dtype of float64"][1][1]
    assert "float64" in told["ReLU dtype of float64"][1][0]


def test_transposed_weights_are_those_that_the_framework_holds(frameworks: Comparison) -> None:
    code = next(c for c in _row(frameworks, "layout").code if c.subject == "tensorflow")
    lines = [line for line in code.source.splitlines() if "np.transpose" in line]
    import torch  # noqa: PLC0415 - only with the frameworks

    rng = np.random.default_rng(0)
    model = torch.nn.Conv2d(4, 5, (2, 3), bias=False)
    x = rng.integers(-4, 5, (1, 4, 6, 7)).astype(np.float32)
    kernel = rng.integers(-4, 5, (5, 4, 2, 3)).astype(np.float32)
    model.weight = torch.nn.Parameter(torch.from_numpy(kernel))
    with torch.no_grad():
        y = model(torch.from_numpy(x)).numpy()
    names = {"np": np, "images": x, "kernel": kernel, "dense": np.ones((5, 4))}
    exec("\n".join(lines), names)  # noqa: S102 - the lines under test
    layer = Conv((2, 3), in_channels=4, out_channels=5, bias=False)
    both = _both("tensorflow", "tensorflow:nn")
    asked = probe("Conv", "", names["images"], layer, weights={"weight": names["kernel"]})
    found = [side.ask(asked).y for side in both.sides]
    both.close()
    for each in found:
        assert each is not None
        np.testing.assert_array_equal(each, np.moveaxis(y, 1, -1))
