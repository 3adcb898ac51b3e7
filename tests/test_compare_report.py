"""A comparison on the command line: from records, in every format, and where it is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
from comparisons import HONEST, rows_of
from made import run, write

from cnnformance.__main__ import main
from cnnformance.conformance import comparing
from cnnformance.reports import compare_render
from cnnformance.reports.compare import Code, Comparison, Instance, Party, Row
from cnnformance.reports.records import Subject, Trait, Verdict


def _record(folder: Path, name: str, version: str, *values: str) -> Path:
    declined = Verdict("gone", "q", "MinPool", ("a",), "document", "float16", "unsupported")
    topic, where = "NaN in maximum and minimum", {"place": "MaxPool"}
    traits = tuple(Trait("gone", topic, value, where) for value in values)
    made = run(declined, traits=traits, head=(Subject("gone", version),))
    return write(folder / name / "verdicts.jsonl", made)


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
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(["compare", *arguments]))
    assert ended.value.code == 2
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
    assert "--format: no table; there are" in _fails(capsys, "numpy", HONEST, "--format", "table")
    damaged.rename(tmp_path / "verdicts.jsonl")
    folder = tmp_path / ".cnnformance" / "newest"
    folder.mkdir(parents=True)
    shutil.move(tmp_path / "verdicts.jsonl", folder)
    assert "run again" in _fails(capsys, "numpy", HONEST)


# Formats

HOSTILE = "<script>alert(1)</script> | `x` \x1b[31m ```\n# head"


def _hostile() -> Comparison:
    pair = (HOSTILE, HOSTILE)
    instance = Instance(HOSTILE, HOSTILE, HOSTILE, pair, (HOSTILE, "other"), "differs")
    code = Code(HOSTILE, HOSTILE, HOSTILE, f"x = '{HOSTILE}'", HOSTILE)
    failed = Code(HOSTILE, HOSTILE, HOSTILE, why=HOSTILE)
    told = ((HOSTILE, HOSTILE, "other"),)
    row = Row("t", HOSTILE, "differs", pair, instance, (instance,), (code, failed), told)
    rows = (
        row,
        dataclasses.replace(row, status="unknown"),
        dataclasses.replace(row, status="same"),
    )
    party = Party(HOSTILE, HOSTILE, HOSTILE)
    return Comparison((party, party), rows, (HOSTILE,))


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


def test_every_format_tells_the_same() -> None:
    rows = rows_of("porting.py:SameLower")
    parties = (Party("one", "1", "asked here"), Party("other", "2", "asked here"))
    found = Comparison(parties, tuple(rows.values()), ("a note",))
    shown = {form: compare_render.render(found, form) for form in compare_render.FORMATS}
    for form, text in shown.items():
        assert "padding that keeps the size" in text, form
        assert "window 3 stride 2 on 4 cells" in text, form
        assert "a note" in text, form
    assert "13 topics: 1 differ, 11 agree, 1 cannot be measured." in shown["text"]
    assert [r["status"] for r in json.loads(shown["json"])["rows"]].count("differs") == 1
