"""Formats for machines: each is well formed, small enough, and hostile text stays text in it."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import failure, run, verdict, write

import cnnformance
from cnnformance import run_commands
from cnnformance.__main__ import main
from cnnformance.reports import badge, github, selection, spreadsheet
from cnnformance.reports.formats import FORMATS
from cnnformance.reports.records import Run, Subject, Verdict
from cnnformance.spec.layers import ReLU

ROOT = Path(cnnformance.__file__).resolve().parents[1]
HOSTILE = (
    "\n::error::pwned\r\n::warning file=a,line=1::x\n=1+1\n</details><script>alert(1)</script>"
    "|a|`b`\"'&<b>\x1b[31m\ufffe%0A::stop-commands::x\n# heading\n```\n"
)


def _failed(number: int = 0, text: str = "", **changes: object) -> Verdict:
    shown = failure(ReLU(), np.full((1, 1, 2), -np.inf), (0, 0, 0), detail=text, script=text)
    plain = {"layer": "ReLU", "question": f"q{number}{text}", "message": f"wrong{text}"}
    return verdict("fail", **{**plain, "failure": shown, **changes})


def _hostile() -> Run:
    name = f"torch{HOSTILE}"
    broken = _failed(0, HOSTILE, subject=name, layer=f"L{HOSTILE}", clauses=(HOSTILE,))
    known = verdict("known", subject=name, question=HOSTILE, known=(HOSTILE,), message=HOSTILE)
    refused = verdict("unsupported", subject=name, question="q9", message=HOSTILE)
    made = run(broken, known, refused, head=(Subject(name, HOSTILE),))
    return replace(made, header=replace(made.header, profile=HOSTILE), footer=None)


def test_the_command_line_knows_every_format() -> None:
    assert set(run_commands.FORMATS) == set(FORMATS)


# --- GitHub ----------------------------------------------------------------------------------


def test_the_summary_has_the_matrix_the_findings_and_each_in_full() -> None:
    text = FORMATS["github"](run(_failed(), verdict(layer="Dense")))
    assert "| Dense | 1 pass |" in text
    assert "1 fail, 1 pass; 20 examples" in text
    assert text.count("<details>") == text.count("</details>") == 1
    assert "-inf" in text


def test_hostile_text_stays_text_in_the_summary() -> None:
    fence, read = "", []
    for line in FORMATS["github"](_hostile()).splitlines():
        if found := re.fullmatch(r"`{3,}", line):
            fence = "" if line == fence else fence or found[0]
        elif not fence:
            read.append(line)
    assert not fence
    text = "\n".join(read)
    assert re.findall(r"</?\w+>", text) == ["<details>", "<summary>", "</summary>", "</details>"]
    assert not re.search(r"(?m)^(::|=|# h)", text)
    assert not re.search(r"(?<!\\)`", text.partition("<details>")[0])


def test_a_large_summary_is_cut_to_what_github_takes() -> None:
    long = "\u00e4" * 9000
    many = [_failed(n, long, subject=f"s{n}", message="", question=f"q{n}") for n in range(100)]
    text = github.summary(run(*many))
    assert 900_000 < len(text.encode()) < 1 << 20
    dropped = int(re.search(r"(\d+) tables or findings had no room here", text)[1])  # type: ignore[index] # it is there
    assert text.count("<details>") == text.count("</details>") == 100 - dropped
    assert "had no room" not in github.summary(run(*many[:5]))


def test_an_annotation_is_one_line_and_no_other_command() -> None:
    lines = FORMATS["annotations"](_hostile()).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    for line in lines:
        title, _, message = line.partition("title=")[2].partition("::")
        assert not set(title) & set(":,")
        assert message
        assert re.fullmatch(r"([^%]|%(25|0D|0A|3A|2C))*", line)
    assert "%253A" not in lines[0]
    assert "%250A" in lines[0]  # which was text, and stays it


def test_a_subject_in_a_file_is_annotated_there() -> None:
    text = github.annotated(run(_failed(subject="adapters/my,engine.py:Mine:fast")))
    assert text.startswith("::error file=adapters/my%2Cengine.py,title=")
    assert "file=" not in github.annotated(run(_failed(subject="torch:compile")))


@pytest.mark.parametrize(("findings", "told"), [(0, 0), (1, 1), (10, 10), (11, 10), (40, 10)])
def test_no_more_is_annotated_than_github_shows(findings: int, told: int) -> None:
    made = run(*(_failed(n, subject=f"s{n}") for n in range(findings)))
    errors = [t for t in github.annotated(made).splitlines() if t.startswith("::error")]
    assert len(errors) == told
    rest = f"::and {findings - 9} more findings: see the report"
    assert (findings > 10) == bool(errors and errors[-1].endswith(rest))


# --- spreadsheets ----------------------------------------------------------------------------


def _cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_each_verdict_is_one_line_of_values() -> None:
    made = run(_failed(), verdict(share=0.5, clauses=("a", "b")), verdict(subject="jax"))
    text = FORMATS["csv"](made)
    head, *rows = _cells(text)
    assert text.count("\n") == len(rows) + 1 == 4
    told = [dict(zip(head, row, strict=True)) for row in rows]
    assert [t["verdict"] for t in told] == ["fail", "pass", "pass"]
    assert (told[1]["share"], told[1]["clauses"], told[1]["version"]) == ("0.5", "a b", "1.0")
    assert (told[0]["effect"], told[0]["expected"], told[0]["what"]) == ("value", "1.0", "wrong")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\n =1", "'=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-inf", "'-inf"),
        ("-1.5e-3", "-1.5e-3"),
        ("+2", "+2"),
        ("a=1", "a=1"),
        ('a\nb,"c"', 'a b,"c"'),
    ],
)
def test_no_cell_is_computed(text: str, cell: str) -> None:
    made = run(verdict(subject=text, message=text), head=(Subject(text, text),))
    (row,) = _cells(spreadsheet.text(made))[1:]
    assert [row[0], row[1], row[-1]] == [cell] * 3


def test_hostile_text_is_one_line_of_values() -> None:
    text = FORMATS["csv"](_hostile())
    rows = _cells(text)
    assert text.count("\n") == len(rows) == 4
    assert {len(row) for row in rows} == {len(spreadsheet.COLUMNS)}


# --- badges ----------------------------------------------------------------------------------


def test_a_badge_tells_findings_and_what_is_known() -> None:
    known = verdict("known", known=("torch.a",), question="q2")
    several = run(_failed(), known, verdict(subject="jax"))
    assert badge.told(several) == ("CNN conformance", "1 finding, 1 known", "red")
    assert badge.told(run(verdict())) == ("torch 1.0", "0 findings", "brightgreen")
    assert badge.told(replace(run(verdict()), footer=None))[1:] == (
        "partial, 0 findings",
        "lightgrey",
    )
    assert badge.told(run(verdict("unsupported")))[1:] == ("nothing passed", "lightgrey")
    assert badge.told(run())[1:] == ("nothing passed", "lightgrey")
    chosen = selection.part(several, ["jax"])
    assert badge.told(chosen)[1:] == ("0 findings", "brightgreen")
    assert json.loads(FORMATS["endpoint"](several)) == {
        "schemaVersion": 1,
        "label": "CNN conformance",
        "message": "1 finding, 1 known",
        "color": "red",
    }


@pytest.mark.parametrize("made", [run(verdict()), _hostile()], ids=["plain", "hostile"])
def test_a_badge_is_a_picture_with_two_texts(made: Run) -> None:
    text = FORMATS["badge"](made)
    picture = ET.fromstring(text)  # noqa: S314 - our own
    space = "{http://www.w3.org/2000/svg}"
    assert {e.tag.removeprefix(space) for e in picture.iter()} == {
        "svg",
        "title",
        "rect",
        "g",
        "text",
    }
    label, message, _ = badge.told(made)
    assert [e.text for e in picture.iter(f"{space}text")] == [label, message]
    assert picture.get("aria-label") == f"{label}: {message}"
    assert max(len(label), len(message)) <= 60
    json.loads(FORMATS["endpoint"](made))


# --- JUnit -----------------------------------------------------------------------------------

FAULTY = f"""
import numpy as np
from cnnformance.adapters.backend import Backend, Unsupported
from cnnformance.spec.layers import ReLU
class Mine(Backend):
    layout = "channels_last"
    dtypes = ("float32",)
    def version(self):
        return "1"
    def build(self, layer, weights):
        if layer == ReLU():
            def wrong(x):
                raise RuntimeError({HOSTILE!r})
            return wrong
        raise Unsupported({HOSTILE!r})
"""


@pytest.mark.parametrize("processes", [[], ["-n1"]], ids=["one", "xdist"])
def test_junit_has_the_verdict_as_properties(processes: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FAULTY, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", str(ROOT / "conformance"), "--rootdir", str(ROOT)]
    command += [
        "--backend=mine.py:Mine",
        "--profile=quick",
        "--junitxml=junit.xml",
        "-q",
        *processes,
    ]
    command += ["-p", "no:cacheprovider", "-k", "test_output and (ReLU or Dense)"]
    done = subprocess.run(  # noqa: S603 - our own words
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    cases = list(ET.parse(tmp_path / "junit.xml").iter("testcase"))  # noqa: S314 - our own
    told = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
    assert {t["subject"] for t in told} == {"mine.py:Mine"}
    fallen = {(t["layer"], t["dtype"], t["verdict"]) for t in told}
    assert ("ReLU", "float32", "fail") in fallen
    assert {what for layer, _, what in fallen if layer == "Dense"} == {"unsupported"}
    failing = [(c, t) for c, t in zip(cases, told, strict=True) if t["verdict"] == "fail"]
    assert all(c.find("failure") is not None for c, _ in failing)
    assert all("relu.formula" in (t["clauses"] or "").split() for _, t in failing)
    assert {t["effect"] for _, t in failing} == {"exception"}
    assert all(t["level"] == "semantics" and t["planned"] for _, t in failing)
    assert all(not {"cnnformance", "cnnformance begun"} & t.keys() for t in told)


# --- the workflow ----------------------------------------------------------------------------


def _commands() -> list[list[str]]:
    """Return the words of each command of ours in the workflow of docs/ci.md."""
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- workflow -->\n```yaml\n(.*?)```", page, re.DOTALL)
    assert found
    assert "\t" not in found[1]
    folded = re.sub(
        r">\n +(pytest(?:.*\n +(?=--))*)", lambda m: re.sub(r"\n +", " ", m[1]), found[1]
    )
    lines = re.findall(r"(?m)^\s*(?:- run: |run: )?((?:pytest|cnnformance) .*)$", folded)
    return [
        shlex.split(line.partition(" >> ")[0].replace("${{ matrix.shard }}", "1")) for line in lines
    ]


def test_the_commands_of_the_workflow_do_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, *ours = _commands()
    assert first[:3] == ["pytest", "--pyargs", "cnnformance.conformance"]
    options = [word for word in first if word.startswith("--")]
    assert options == ["--pyargs", "--backend", "--profile", "--shard", "--record", "--junitxml"]
    assert [words[1] for words in ours] == ["merge", *["report"] * 4, "diff"]
    for number in range(1, 5):
        made = run(verdict(question=f"q{number}"))
        head = replace(made.header, shards=(f"{number}/4",))
        write(tmp_path / f"shard-{number}.jsonl", replace(made, header=head))
    made = run(*(verdict(question=f"q{number}") for number in range(1, 5)))
    write(tmp_path / "conformance-baseline.jsonl", made)
    for words in ours:
        files = [
            str(p.name) for w in words[1:] for p in ([*Path().glob(w)] if "*" in w else [Path(w)])
        ]
        assert main(files) == 0, capsys.readouterr().err
    assert "0 regressions" in capsys.readouterr().out
    assert ET.parse("badge.svg").getroot().get("role") == "img"  # noqa: S314 - our own
