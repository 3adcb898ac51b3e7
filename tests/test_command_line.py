"""The command line answers, exits as it says, and starts fast."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path

import pytest
from made import run, write

import cnnformance
from cnnformance import __main__ as front_door
from cnnformance.__main__ import main
from cnnformance.adapters import registry
from cnnformance.adapters.sources import Source
from cnnformance.reports.records import Verdict

ROOT = Path(cnnformance.__file__).resolve().parents[1]
VERDICT = Verdict("torch", "q", "ReLU", ("relu.formula",), "document", "float32", "pass")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, which holds one whole run."""
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / ".cnnformance" / "first" / "verdicts.jsonl", VERDICT)
    return tmp_path


def _write(path: Path, *verdicts: Verdict, ended: bool = True) -> Path:
    made = run(*verdicts)
    return write(path, made if ended else replace(made, footer=None))


def _says(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("cnnformance: ")
    return err


def test_report_shows_the_newest_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 pass" in _says(capsys, "report")
    text = _says(capsys, "report", ".cnnformance/first", "--format", "json")
    assert json.loads(text)["partial"] is False
    assert _says(capsys, "report", str(folder), "--format", "html").startswith("<!DOCTYPE html>")
    assert _says(capsys, "report", "--format", "markdown").startswith("# Conformance report")


@pytest.mark.usefixtures("folder")
def test_report_writes_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert _says(capsys, "report", "--output", "report.txt") == ""
    assert "1 pass" in Path("report.txt").read_text()
    assert "absent/report.txt" in _fails(capsys, "report", "--output", "absent/report.txt")
    record = ".cnnformance/first/verdicts.jsonl"
    before = Path(record).read_bytes()
    said = _fails(capsys, "report", record, "--output", record)
    assert "this is the run's record; name another file" in said
    assert Path(record).read_bytes() == before


@pytest.mark.usefixtures("folder")
def test_report_opens_its_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def browse(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", browse)
    page = Path(".cnnformance/first/report.html").resolve()
    assert _says(capsys, "report", "--open") == f"{page}\n"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert _says(capsys, "report", "--open", "--output", "mine.html") == "mine.html\n"
    assert opened == [page.as_uri(), Path("mine.html").resolve().as_uri()]
    assert "--open shows the page" in _fails(capsys, "report", "--open", "--format", "json")
    record = str(page.with_name("verdicts.jsonl"))
    assert "name another file" in _fails(capsys, "report", "--open", "--output", record)
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert "no browser was found" in _says(capsys, "report", "--open")


def test_report_exits_0_on_failures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(folder / "failed.jsonl", replace(VERDICT, verdict="crash"), ended=False)
    text = _says(capsys, "report", str(path))
    assert text.startswith("PARTIAL: 1 of 1 questions recorded")
    assert "1 crash" in text


def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "pytest conformance" in _fails(capsys, "report")
    assert "no such file" in _fails(capsys, "report", "absent")
    (tmp_path / "verdicts.jsonl").write_text("nonsense\n")
    assert "verdicts.jsonl, line 1" in _fails(capsys, "report", ".")
    (tmp_path / "verdicts.jsonl").write_bytes(b"\xff\x00\n")
    assert "verdicts.jsonl, line 1" in _fails(capsys, "report", ".")
    assert "--between" in _fails(capsys, "diff", ".")


@pytest.mark.parametrize("arguments", [[], ["report", "--format", "pdf"], ["nonsense"]])
def test_wrong_words_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_diff_compares_two_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = _write(folder / "second" / "verdicts.jsonl", replace(VERDICT, verdict="fail"))
    text = _says(capsys, "diff", ".cnnformance/first", str(second))
    assert "regression" in text
    text = _says(capsys, "diff", ".", "second", "--format", "markdown")
    assert "| regression | torch | ReLU | q | pass | fail |" in text
    assert "torch: 0 regressions" in _says(capsys, "diff", ".", "--between", "torch", "torch")
    assert "no subject 'jax'" in _fails(capsys, "diff", ".", "--between", "torch", "jax")


def test_no_answer_moves_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "_report", lambda _: "a\x1b[31m\x9b2Jb\n\u202ec\n")
    assert _says(capsys, "report") == "ab\n\ufffdc\n"


def test_clauses_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "pool.max.formula" in _says(capsys, "clauses")


def test_backends_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _says(capsys, "backends").splitlines()
    assert lines[0].split() == ["backend", "installed", "layout", "modes", "dtypes", "class"]
    for name, path in registry.registered().items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert line.endswith(path)
        assert "can be read" not in line


def test_backends_imports_no_framework_and_no_numpy() -> None:
    code = (
        "import sys; from cnnformance.__main__ import main; main(['backends']); "
        "heavy = {'numpy', 'torch', 'tensorflow', 'keras', 'jax', 'onnx', 'onnxruntime', 'pytest', "
        "'pydantic'};"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_reader_that_leaves_early_is_no_error(folder: Path) -> None:
    many = [replace(VERDICT, question=f"q{n}", layer=f"Layer{n}") for n in range(5000)]
    _write(folder / "many.jsonl", *many)
    command = [sys.executable, "-m", "cnnformance", "report", "--format", "json"]
    command.append(str(folder / "many.jsonl"))
    with subprocess.Popen(  # noqa: S603 - our own words
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


SOURCE = """
from __future__ import annotations
import math, numpy as np, framework.nn
from cnnformance.adapters.backend import Backend
from .sibling import helper
FLOATS = ("float32", *("float16",)) if math else ()
class Base(Backend):
    layout = "channels_first"
    modes = ("compile",)
class Mine(Base):
    dtypes: ClassVar[tuple[str, ...]] = (*FLOATS, "int8")
    modes = find_modes()
"""


def test_class_attributes_are_read_from_source() -> None:
    source = Source(ast.parse(SOURCE))
    assert source.frameworks() == ["framework"]
    assert source.attributes("Mine") == {
        "layout": "channels_first",
        "dtypes": ("float32", "float16", "int8"),
        "modes": "?",
    }
    assert source.attributes("Absent") == {}
