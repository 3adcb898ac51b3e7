"""What a run shows in the terminal, and that its words change nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from made import failure, run, verdict

import cnnformance
from cnnformance.pytest_items import subject_of
from cnnformance.reports import records, render, summary
from cnnformance.reports.records import Divergence, Subject, Trait
from cnnformance.spec.layers import MaxPool

ROOT = Path(cnnformance.__file__).resolve().parents[1]
CONFORMANCE = str(ROOT / "conformance")
WIDTH = 80

BACKEND = """\
import os
import time
from cnnformance.adapters.backend import Backend, Unsupported
from cnnformance.spec.layers import Dense, Flatten, GlobalMaxPool, ReLU


def sleep(x):
    time.sleep(600)


class Mine(Backend):
    dtypes = ("float32", "float64", "int8", "bool")

    def build(self, layer, weights):
        match layer:
            case ReLU():
                return lambda x: x * (x > 0)
            case Flatten():
                return lambda x: x.reshape(len(x), -1) + 1
            case GlobalMaxPool():
                return lambda x: os._exit(3)
            case Dense():
                return sleep
        raise Unsupported("no such layer")
"""
KNOWN = """\
[[known]]
id = "mine.relu-by-product"
class = "fault"
layers = ["ReLU"]
effects = ["not-finite"]
when = "True"
versions = ""
says = "Minus infinity times zero is NaN."
seen = 2026-11-23
"""
FLOATS = "test_output.py and not options and float32"
ALL = f"{FLOATS} and (ReLU or Flatten or GlobalMaxPool or Dense or Conv)"


def ask(
    folder: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    options = ["--rootdir", str(ROOT), "--profile=quick", "--record=verdicts.jsonl"]
    words = [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", *arguments]
    return subprocess.run(  # noqa: S603 - our own words
        words,
        cwd=folder,
        env={**plain, "COLUMNS": str(WIDTH), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(BACKEND, encoding="utf-8")
    (tmp_path / "mine.toml").write_text(KNOWN, encoding="utf-8")
    return tmp_path


# --- a run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["0", "2"])
def test_each_verdict_has_its_word_and_its_letter(jobs: str, mine: Path) -> None:
    chosen = (
        CONFORMANCE,
        "--backend=mine.py:Mine",
        "-k",
        ALL,
        "--timeout=2",
        "--tb=no",
        "-n",
        jobs,
    )
    done = ask(mine, *chosen)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    fallen = {v.layer: v.verdict for v in records.read(mine / "verdicts.jsonl").verdicts}
    expected = {"ReLU": "known", "Flatten": "fail", "Conv": "unsupported"}
    assert fallen == {**expected, "GlobalMaxPool": "crash", "Dense": "hang"}
    letters = re.findall(r"^(?:.*: )?([.A-Za-z]+) +\[", done.stdout, re.MULTILINE)
    assert sorted("".join(letters)) == ["C", "F", "H", "k", "u"]
    closing = done.stdout.splitlines()[-1]
    for name in fallen.values():
        assert f"1 {name}" in closing
    assert not re.search("passed|failed|skipped|xfailed", closing)
    told = [line for line in done.stdout.splitlines() if re.match("(FAIL|CRASH|HANG) ", line)]
    assert len(told) == 3
    assert all(len(line) <= WIDTH for line in told)
    named = ask(mine, *chosen, "-v").stdout
    for name in fallen.values():
        assert re.search(rf"\b{name.upper()}\b", named)


def test_a_run_says_what_it_asks_and_follows_each_subject(mine: Path) -> None:
    chosen = (
        "--backend=numpy",
        "--backend=mine.py:Mine",
        "-k",
        "test_output.py and not options and Conv",
    )
    done = ask(mine, CONFORMANCE, *chosen)
    assert done.returncode == 0
    header = records.read(mine / "verdicts.jsonl").header
    lines = done.stdout.splitlines()
    assert f"subjects: numpy {header.numpy}, mine.py:Mine" in lines
    assert "profile: quick (10 drawn cases a question), seed 0" in lines
    each = header.planned // 2
    assert f"{header.planned} questions: {each} to numpy, {each} to mine.py:Mine" in lines
    first, through, second = (
        next(n for n, line in enumerate(lines) if line.startswith(start))
        for start in ("numpy, output: .", "numpy is through: ", "mine.py:Mine, output: u")
    )
    assert first < through < second
    assert lines[first].endswith("[ 50%]")
    assert [line for line in lines if "[100%]" in line] == [lines[second]]
    assert not [line for line in lines if "test_output.py" in line]


def test_the_words_change_no_outcome(mine: Path) -> None:
    """A known divergence fails nothing, the first failure ends ``-x``, and JUnit has its words."""
    chosen = (CONFORMANCE, "--backend=mine.py:Mine", "--junitxml=junit.xml")
    done = ask(mine, *chosen, "-k", "test_output.py and not options and (ReLU or Conv) and float32")
    assert done.returncode == 0, done.stdout
    suite = ET.parse(mine / "junit.xml").getroot()[0]  # noqa: S314 - our own file
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "2",
        "failures": "0",
        "errors": "0",
        "skipped": "2",
    }
    kinds = [skipped.get("type") for skipped in suite.iter("skipped")]
    assert sorted(map(str, kinds)) == ["pytest.skip", "pytest.xfail"]
    assert {p.get("value") for p in suite.iter("property") if p.get("name") == "verdict"} == {
        "known",
        "unsupported",
    }
    assert not [p for p in suite.iter("property") if "cnnformance" in (p.get("name") or "")]
    done = ask(mine, *chosen, "-k", "test_output.py and not options and Flatten", "-x", "--tb=no")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "stopping after 1 failures" in done.stdout
    assert len(records.read(mine / "verdicts.jsonl").verdicts) == 1
    assert "1 fail" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("options", [(), ("-rA",), ("-q",)], ids=["plain", "all", "quiet"])
def test_pytest_shows_what_it_is_asked_for(options: Sequence[str], mine: Path) -> None:
    chosen = (
        "-k",
        "test_output.py and not options and float32 and (ReLU or Conv or Flatten)",
        *options,
    )
    done = ask(mine, CONFORMANCE, "--backend=mine.py:Mine", *chosen)
    assert done.stdout.count(" FAILURES ") == 1
    assert "  layer     Flatten(start=1)" in done.stdout
    listed = done.stdout.partition("short test summary info")[2]
    assert bool(listed) == bool(options)  # each failure was told as it fell, but to who is quiet
    assert ("mine.relu-by-product" in listed) == (options == ("-rA",))
    assert ("unsupported: no such layer" in listed) == (options == ("-rA",))
    assert ("\n3 questions\n" in done.stdout) == (options != ("-q",))


def test_a_session_of_others_keeps_its_words(mine: Path) -> None:
    (mine / "test_other.py").write_text("def test_zebra(): pass\ndef test_yak(): assert 0\n")
    words = [sys.executable, "-m", "pytest", "test_other.py", "-p", "no:cacheprovider"]
    alone = subprocess.run(words, cwd=mine, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert re.search("1 failed, 1 passed in", alone.stdout.splitlines()[-1])
    assert "subjects" not in alone.stdout
    assert "FAILED" in alone.stdout
    chosen = (
        "--backend=mine.py:Mine",
        "-k",
        "zebra or yak or (test_output.py and not options and Conv-float32)",
    )
    beside = ask(mine, "test_other.py", CONFORMANCE, *chosen)
    assert beside.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in beside.stdout.splitlines()[-1]
    assert "1 unsupported" in beside.stdout.splitlines()[-1]
    assert re.search(r" \.F +\[", beside.stdout)
    assert [line for line in beside.stdout.splitlines() if line.startswith("FAILED ")]


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
    ids=["pipe", "forced", "refused"],
)
def test_colour_is_as_pytest_has_it(env: dict[str, str], coloured: bool, mine: Path) -> None:
    chosen = ("-k", "test_output.py and not options and float32 and (ReLU or Flatten)")
    done = ask(mine, CONFORMANCE, "--backend=mine.py:Mine", *chosen, env=env)
    lines = done.stdout.splitlines()
    assert ("\x1b" in done.stdout) == coloured
    red = "\x1b[31mFAIL test_output" if coloured else "FAIL test_output"
    assert [line for line in lines if line.startswith(red)]
    assert next(line for line in lines if line.startswith("ReLU")).endswith(
        "\x1b[33m1k\x1b[0m" if coloured else "1k"
    )


def test_a_terminal_of_ascii_shows_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "größe.py").write_text(BACKEND, encoding="utf-8")
    chosen = ("-k", "test_output.py and not options and float32 and (Conv or Flatten)")
    plain = {"PYTHONIOENCODING": "ascii"}
    done = ask(tmp_path, CONFORMANCE, "--backend=größe.py:Mine", *chosen, env=plain)
    assert done.stdout.isascii()
    lines = done.stdout.splitlines()
    assert "subjects: gr\\xf6\\xdfe.py:Mine" in lines
    assert [line for line in lines if line.startswith("Flatten") and line.endswith("1F")]
    assert [line for line in lines if line.startswith("FAIL test_output[gr&#246;&#223;e.py:Mine-")]


def test_the_record_is_named_from_where_the_run_began(mine: Path) -> None:
    (mine / "a b").mkdir()
    chosen = (
        CONFORMANCE,
        "--backend=mine.py:Mine",
        "-k",
        "test_output.py and not options and Conv-float32",
    )
    done = ask(mine, *chosen, "--record=a b/verdicts.jsonl")
    lines = done.stdout.splitlines()
    assert lines[-3] == "verdicts: a b/verdicts.jsonl"
    (words,) = re.findall("^the whole report: (cnnformance report .*)$", lines[-2])
    report = [str(Path(sys.executable).with_name("cnnformance")), "report", "a b"]
    assert words == "cnnformance report 'a b'"
    told = subprocess.run(report, cwd=mine, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    assert "Conv" in told.stdout


@pytest.mark.parametrize(
    ("nodeid", "subject"),
    [
        ("a.py::test_b[torch-MaxPool]", "torch"),
        ("a.py::test_b[torch]", "torch"),
        ("a.py::test_b[torch:compile-x]", "torch:compile"),
        ("a.py::test_b[my-one-x]", "my-one"),
        ("a.py::test_b[my-x]", "my"),
        ("a.py::test_b[gr&#246;&#223;e-x]", "größe"),
        ("a.py::test_b[MaxPool-torch]", None),
        ("a.py::test_b", None),
        ("torch.py::test_b", None),
    ],
)
def test_an_id_names_its_subject(nodeid: str, subject: str | None) -> None:
    subjects = ("my", "my-one", "torch", "torch:compile", "größe")
    assert subject_of(nodeid, subjects) == subject


# --- the summary -----------------------------------------------------------------------------

LAYERS = ("MaxPool", "AveragePool", "MinPool", "LpPool", "Conv", "ReLU", "Flatten", "Dense")


def _entry(name: str) -> Divergence:
    told = {"modes": (), "versions": "", "says": "It is so.", "link": "", "seen": "2026-01-02"}
    return Divergence(name, "fault", LAYERS, ("value",), "True", **told)  # type: ignore[arg-type] # of texts


def _many(subjects: Sequence[str], failing: int = 0, known: int = 0) -> records.Run:
    """Return a run of many layers, with findings, recorded divergences and all that limits it."""
    shown = replace(failure(MaxPool((2,)), [[[1.0], [2.0]]], (0, 0, 0)), effect="not-refused")
    verdicts = [verdict(subject=s, layer=n, question=n) for s in subjects for n in LAYERS]
    for n in range(failing):
        question = f"test_a.py::test_{n}"
        verdicts.append(
            verdict("fail", question=question, failure=shown, message="half-open " * 60)
        )
    names = {s: [f"{s}.a-name-of-{n}-words" for n in range(known)] for s in subjects}
    for s, ids in names.items():
        for i in ids:
            met = (verdict("known", subject=s, layer=n, question=i + n, known=(i,)) for n in LAYERS)
            verdicts.extend(met)
    verdicts += [
        verdict("not-run", question=f"n{n}", message=f"reason {n} of a long one") for n in range(20)
    ]
    verdicts.append(verdict(question="cut", examples=1, planned=9))
    verdicts.append(verdict(question="blunt", dtype="float16", sharpness=3.0, compiles=True))
    torn = (
        Trait(s, f"trait {n}", value, {"rank": value}, value)
        for s in subjects
        for n in range(9)
        for value in "ab"
    )
    head = tuple(Subject(s, "1.0", tuple(map(_entry, ids))) for s, ids in names.items())
    return run(*verdicts, traits=tuple(torn), head=head)


@pytest.mark.parametrize("known", [0, 40])
@pytest.mark.parametrize("failing", [0, 2, 60])
@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_a_summary_has_at_most_40_lines_of_80_columns(count: int, failing: int, known: int) -> None:
    subjects = ["torch", *(f"subject{n}:mode" for n in range(1, count))]
    made = _many(subjects, failing, known)
    lines = summary.text(made, WIDTH).splitlines()
    assert len(lines) <= summary.MOST == 37
    assert max(map(len, lines)) <= WIDTH
    assert not [line for line in lines if line != line.rstrip()]
    assert not [line for line in lines if line.endswith("-")]
    names = re.findall(r"\S*-name-\S*", "\n".join(lines))
    assert all(re.fullmatch(r"\w+(:mode)?\.a-name-of-\d+-words:", name) for name in names)
    assert set(re.findall(r"\bhalf\S*", "\n".join(lines))) == ({"half-open"} if failing else set())
    told = [line for line in lines if line.startswith("fail: ")]
    rest = re.findall(r"^and (\d+) more findings", "\n".join(lines), re.MULTILINE)
    assert len(told) + sum(map(int, rest)) == failing
    assert len(told) >= min(failing, 2)
    rest = re.findall(r"^ +and (\d+) more: cnnformance report", "\n".join(lines), re.MULTILINE)
    assert len(names) + sum(map(int, rest)) == known * count
    for said in ("not run: reason", "17 more reasons", "CUT SHORT: 1", "proves little", "compiles"):
        assert any(said in line for line in lines), said
    assert f"Traits that are inconsistent: 9 in {subjects[0]}" in "\n".join(lines)


def test_what_the_summary_leaves_out_stands_in_the_report() -> None:
    made = _many(["torch"], failing=12, known=40)
    report = render.render(made)
    for n in range(40):
        assert f"torch.a-name-of-{n}-words (fault" in report
    for n in range(20):
        assert f"reason {n} of a long one" in report
    for n in range(9):
        assert f"trait {n}" in report
    for n in range(12):
        assert f"test_a.py::test_{n}" in report
    assert "It is so." in report
    assert "Cut short" in report
    assert "Where a pass proves little" in report


def test_layers_stand_in_two_halves_where_they_fit() -> None:
    made = run(*(verdict(layer=n, question=n) for n in LAYERS), verdict("fail"))
    assert summary.text(made, WIDTH).splitlines()[:5] == [
        "layer        torch   layer    torch",
        "MaxPool      1F 1    Conv     1",
        "AveragePool  1       ReLU     1",
        "MinPool      1       Flatten  1",
        "LpPool       1       Dense    1",
    ]
    narrow = summary.text(made, 30).splitlines()
    assert narrow[:2] == ["layer        torch", "MaxPool      1F 1"]
    assert narrow[8] == "Dense        1"
    narrower = summary.text(made, 10).splitlines()
    assert narrower[:2] == ["subject  questions", "torch    1F 8"]


def test_a_divergence_names_the_subjects_that_share_it() -> None:
    met = [
        verdict("known", subject=s, question=q, known=("tf.a",))
        for s, q in (("tf", "1"), ("tf", "2"), ("tf:nn", "1"))
    ]
    assert "   3 tf.a: MaxPool (tf, tf:nn)" in summary.text(run(*met)).splitlines()
    assert "   2 tf.a: MaxPool" in summary.text(run(*met[:2])).splitlines()
    assert "   1 tf.a: MaxPool (tf:nn)" in summary.text(run(*met[2:])).splitlines()


def test_folders_leave_the_heads_where_names_stay_apart() -> None:
    same = run(verdict(subject="a/mine.py:Mine"), verdict(subject="b/mine.py:Mine"))
    assert summary.text(same).splitlines()[0].split() == ["layer", *same.subjects]
    apart = run(verdict(subject="a/mine.py:Mine"), verdict(subject="b/other.py:Mine"))
    assert summary.text(apart).splitlines()[0].split() == ["layer", "mine.py:Mine", "other.py:Mine"]
