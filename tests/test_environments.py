"""Another version runs in an environment of its own, which is made once, whole, and by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import packages
import pytest

import cnnformance
from cnnformance.__main__ import main
from cnnformance.adapters import environments, installers, registry, versions
from cnnformance.adapters.environments import Environment
from cnnformance.adapters.exceptions import Unavailable
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import divergences
from cnnformance.conformance.scratch import Scratch
from cnnformance.reports import records
from cnnformance.spec.reading import DataError

ROOT = Path(cnnformance.__file__).resolve().parents[1]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cnnformance" / "environments"


class Fake(installers.Installer):
    """Makes an environment of a file, and notes what it is asked for; fails as it is told."""

    made: list[tuple[str, ...]]
    fails: Mapping[str, str]

    def create(self, folder: Path, python: str) -> None:
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(python)
        (folder / "by").write_text(python, encoding="utf-8")

    def install(self, python: Path, requirements: Sequence[str]) -> None:
        self.made.append(tuple(requirements))
        by = (python.parents[1] / "by").read_text(encoding="utf-8")
        if by in self.fails:
            raise installers.Failed(self.fails[by])


@pytest.fixture
def fake(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake((), (), {}, 0)
    made.made, made.fails = [], {}
    monkeypatch.setattr(environments, "installer", lambda *_: made)
    monkeypatch.setattr(environments, "_pythons", lambda: iter(["/bin/sh", "/bin/ls"]))
    assert not cache.exists()
    return made


# --- versions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "asked", "fits"),
    [
        ("1.20.0", "1.20", True),
        ("1.20.0", "1.20.0", True),
        ("1.20.1", "1.20", False),
        ("2.13.0+cpu", "2.13.0", True),
        ("2.13.0+cpu", "2.13+cpu", True),
        ("2.13.0", "2.13.0+cpu", False),
        ("2.16.0rc1", "2.16.0", False),
        ("2.16rc1", "2.16.0rc1", True),
        ("10.0", "1.0", False),
        ("", "1.0", False),
    ],
)
def test_a_version_fits_as_equality_of_releases_has_it(there: str, asked: str, fits: bool) -> None:
    assert versions.fits(there, asked) is fits


@pytest.mark.parametrize("version", ["1.0;python_version<'3'", "1.*", ">=1", "1.0 ", "x", "1.0,<2"])
def test_what_is_no_version_is_told(version: str) -> None:
    with pytest.raises(registry.SubjectError, match=r"is no version such as 1\.20\.0"):
        registry.parse(f"numpy=={version}")


def test_the_installed_version_needs_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    there = registry.installed_version("numpy")
    assert registry.parse(f"numpy=={there}").version == ""
    assert registry.parse("numpy==0.1@cpu").version == "0.1"
    monkeypatch.setattr(registry, "importable", lambda _: False)
    assert registry.parse("jax==0.4.20:jit").version == "0.4.20"
    with pytest.raises(registry.SubjectError, match="jax is not installed"):
        registry.parse("jax")


# --- what an environment holds ---------------------------------------------------------------

TABLES = """
[[environment]]
since = "0"
package = "works-cpu"
needs = ["numpy<2", "keras<3"]

[[environment]]
since = "2.16"
"""


@pytest.mark.parametrize(
    ("version", "held"),
    [
        ("2.15.1", ("works-cpu==2.15.1", "numpy<2", "keras<3", "numpy", "ml_dtypes")),
        ("2.16.0rc1", ("works==2.16.0rc1", "numpy", "ml_dtypes")),
        ("10.0", ("works==10.0", "numpy", "ml_dtypes")),
    ],
)
def test_an_environment_holds_what_its_version_needs(
    version: str, held: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "works.toml"
    file.write_text(TABLES, encoding="utf-8")
    assert Environment("works", version, str(file)).requirements == held
    assert Environment("works", version).requirements == (f"works=={version}", *held[-2:])


def test_another_content_is_another_environment(tmp_path: Path) -> None:
    file = tmp_path / "works.toml"
    file.write_text(TABLES, encoding="utf-8")
    first = Environment("works", "2.15.1", str(file))
    before = first.folder
    assert before == Environment("works", "2.15.1", str(file)).folder
    file.write_text(TABLES.replace("keras<3", "keras<4"), encoding="utf-8")
    assert first.folder != before
    assert first.lock != Environment("works", "2.15.2", str(file)).lock


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('needs = ["numpy"]', "since: is missing"),
        ('since = "new"', "needs a version such as '1.20', not 'new'"),
        ('since = "1"\nneeds = ["numpy <<"]', "needs a requirement such as 'numpy<2'"),
        ('since = "1"\nneed = ["numpy"]', "need: is unknown"),
    ],
)
def test_a_malformed_table_is_told_with_its_key(table: str, says: str) -> None:
    with pytest.raises(DataError, match=r"works\.toml: environment") as caught:
        divergences.parse(f"[[environment]]\n{table}\n", "works.toml")
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["onnxruntime", "tensorflow", "jax"])
def test_each_framework_says_what_its_old_versions_need(name: str) -> None:
    old = environments.of(registry.Target("", registry.registered()[name], version="0.1"))
    assert "numpy<2" in old.requirements


# --- making ----------------------------------------------------------------------------------


def test_an_environment_is_made_once(fake: Fake) -> None:
    wanted = Environment("works", "1.0")
    assert not wanted.whole
    assert wanted.have() == wanted.have() == wanted.python
    assert fake.made == [wanted.requirements]
    told = json.loads((wanted.folder / "made.json").read_text(encoding="utf-8"))
    assert told["requirements"] == list(wanted.requirements)


@pytest.mark.parametrize("gone", ["made.json", "bin/python"])
def test_a_half_made_environment_is_made_anew(gone: str, fake: Fake) -> None:
    wanted = Environment("works", "1.0")
    wanted.have()
    (wanted.folder / gone).unlink()
    (wanted.folder / "left").touch()
    wanted.have()
    assert wanted.whole
    assert not (wanted.folder / "left").exists()
    assert len(fake.made) == 2


def test_the_next_python_is_tried_where_one_has_no_wheel(fake: Fake) -> None:
    wanted = Environment("works", "1.0")
    fake.fails = {"/bin/sh": "ERROR: no wheel"}
    wanted.have()
    assert (wanted.folder / "by").read_text(encoding="utf-8") == "/bin/ls"


def test_what_cannot_be_had_says_the_first_reason_and_leaves_nothing(fake: Fake) -> None:
    wanted = Environment("works", "1.0")
    fake.fails = {"/bin/sh": "ERROR: no wheel", "/bin/ls": "ERROR: none"}
    with pytest.raises(Unavailable, match=r"^works 1.0 cannot be had: no wheel$"):
        wanted.have()
    assert len(fake.made) == 2
    assert not wanted.folder.exists()


def test_no_other_python_is_tried_without_a_network(fake: Fake) -> None:
    fake.fails = {"/bin/sh": "error: Failed to fetch: `x`"}
    with pytest.raises(Unavailable, match="Failed to fetch"):
        Environment("works", "1.0").have()
    assert len(fake.made) == 1


def test_the_pythons_are_this_one_and_those_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python3.18").symlink_to(sys.executable)
    shim = tmp_path / "python3.19"
    shim.write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = environments._pythons()
    assert list(found) == [sys.executable, str(tmp_path / "python3.18")]


def test_a_cache_that_cannot_be_written_to_is_told(tmp_path: Path, fake: Fake) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(Unavailable, match="no environment can be made of it"):
        Environment("works", "1.0").have()
    assert fake.made == []


def test_of_two_that_want_it_at_once_one_makes_it(fake: Fake, cache: Path) -> None:
    wanted = Environment("works", "1.0")
    code = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    cache.mkdir(parents=True)
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", code, str(wanted.lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        threads = [threading.Thread(target=wanted.have) for _ in range(2)]
        for thread in threads:
            thread.start()
        threads[0].join(0.3)
        assert fake.made == []
        other.stdin.close()
        for thread in threads:
            thread.join()
    assert len(fake.made) == 1


# --- installers ------------------------------------------------------------------------------

UV = """  \u00d7 No solution found when resolving dependencies:
  ╰─▶ Because works==1.14.1 has no wheels with a matching Python ABI tag
      (e.g., `cp311`) and you require works==1.14.1, we can conclude that
      your requirements are unsatisfiable.

      hint: You require CPython 3.11
"""
PIP = """WARNING: retrying
ERROR: Could not find a version that satisfies the requirement works==9 (from versions: none)
ERROR: No matching distribution found for works==9
"""


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (UV, "works==1.14.1 has no wheels with a matching Python ABI tag (e.g., `cp311`)"),
        ("error: No space left\n  on device\n", "No space left on device"),
        (PIP, PIP.splitlines()[1].removeprefix("ERROR: ")),
        ("x" * 900, "x" * 300 + " ..."),
    ],
)
def test_the_reason_is_one_line(output: str, said: str) -> None:
    assert installers.reason(output) == said


def test_uv_finds_packages_where_pip_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in list(os.environ):
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE":
            monkeypatch.delenv(name)
    assert installers.as_of_pip() == {}
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels https://example.org/more")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://example.org/a\nhttps://example.org/b")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert installers.as_of_pip() == {
        "UV_FIND_LINKS": f"{tmp_path / 'wheels'},https://example.org/more",
        "UV_INDEX": "https://example.org/a https://example.org/b",
        "UV_NO_INDEX": "1",
    }


def test_no_packages_of_this_python_reach_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/here")
    monkeypatch.setenv("VIRTUAL_ENV", "/here")
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & installers.variables().keys()
    assert installers.variables()["PATH"] == os.environ["PATH"]


# --- whole -----------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to ask from, where version 2.0 of a framework is installed; 1.0 can be had.

    It has settings of uv that must not be followed.
    """
    work = tmp_path / "work"
    work.mkdir()
    (work / "uv.toml").write_text('constraint-dependencies = ["tinyworks>9"]', encoding="utf-8")
    packages.published(tmp_path / "wheels")
    packages.installed(tmp_path / "here")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path / "here")]))
    monkeypatch.syspath_prepend(tmp_path / "here")
    registry.registered.cache_clear()
    monkeypatch.chdir(work)
    assert not cache.exists()
    return work


def asked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Put the questions about the output of ReLU, or as the arguments say."""
    words = ["--profile=quick", f"--record={folder}/verdicts.jsonl", "-c", os.devnull]
    words += ["-p", "no:cacheprovider", f"--rootdir={ROOT}", "-k", "ReLU-float32 and not options"]
    return subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "pytest", f"{ROOT}/conformance/test_output.py", *words, *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("processes", [(), ("-n2",)], ids=["one", "two"])
def test_versions_are_asked_side_by_side(tiny: Path, processes: tuple[str, ...]) -> None:
    names = ("tinyworks==1.0", "tinyworks==9.9", "tinyworks", "tinyworks==2.0", "tinyworks==1:same")
    done = asked(tiny, *(f"--backend={name}" for name in names), *processes)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    run = records.read(tiny / "verdicts.jsonl")
    fallen = {name: {v.verdict for v in run.verdicts if v.subject == name} for name in names}
    assert fallen == {
        "tinyworks==1.0": {"fail"},
        "tinyworks==9.9": {"not-run"},
        "tinyworks": {"pass"},
        "tinyworks==2.0": {"pass"},
        "tinyworks==1:same": {"fail"},
    }
    assert [s.version for s in run.header.subjects] == ["1.0", "9.9", "2.0", "2.0", "1"]
    (why,) = {v.message for v in run.verdicts if v.verdict == "not-run"}
    assert why.startswith("tinyworks 9.9 cannot be had: ")
    assert "\n" not in why


def test_a_version_that_runs_as_another_is_an_error(tiny: Path) -> None:
    source = packages.SOURCE.format(version="1.1", relu=packages.RIGHT)
    packages.wheel(tiny.parent / "wheels", "tinyworks", "1.5", {"tinyworks.py": source})
    done = asked(tiny, "--backend=tinyworks==1.5")
    assert "tinyworks==1.5: 1.5 is asked for, and 1.1 runs" in done.stdout


def test_a_version_cannot_run_in_this_process(tiny: Path) -> None:
    done = asked(tiny, "--backend=tinyworks==1.0", "--in-process")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith("tinyworks 1.0 is not installed here, as --in-process needs")
    assert asked(tiny, "--backend=tinyworks==2.0", "--in-process").returncode == 0


def test_an_old_version_is_tried_and_compared(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tiny
    assert main(["try", "tinyworks==1.0"]) == 0
    tried = capsys.readouterr().out
    assert tried.startswith("tinyworks==1.0 1.0\n")
    assert "writes no scripts" not in tried  # each was run, and gave the right result
    assert main(["try", "tinyworks==9.9"]) == 2
    assert "tinyworks 9.9 cannot be had" in capsys.readouterr().err
    assert main(["compare", "tinyworks==1.0", "tinyworks"]) == 0
    assert "tinyworks==1.0 1.0: asked here" in capsys.readouterr().out
    scratch = Scratch(python=Subject(registry.parse("tinyworks==1.0")).python)
    try:
        assert scratch.run("import tinyworks\ny = tinyworks.__version__", "y") == "1.0"
        assert np.isnan(scratch.run("import numpy as np\ny = np.full((1, 2), np.nan)", "y")).all()
    finally:
        scratch.close()


@pytest.mark.trials
def test_an_old_release_is_asked(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert not cache.exists()
    done = asked(tmp_path, "--backend=onnxruntime==1.20.1", "--backend=onnxruntime")
    assert done.returncode == 0, done.stdout
    run = records.read(tmp_path / "verdicts.jsonl")
    assert next(s.version for s in run.header.subjects) == "1.20.1"
    assert {v.verdict for v in run.verdicts} == {"pass"}
