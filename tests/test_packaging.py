"""The built distributions: what they hold, and that they work where there is no clone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.version import Version

import cnnformance
from cnnformance.reports import records

ROOT = Path(cnnformance.__file__).resolve().parents[1]
PARTS = ("spec", "reference", "adapters", "conformance", "reports")
UNBUILT = shutil.ignore_patterns(
    ".git", ".venv", ".cnnformance", ".hypothesis", ".*_cache", "__pycache__", "build", "*.egg-info"
)


def _python(
    folder: Path, *arguments: str, site: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder; what lies in ``site`` comes before all that is installed."""
    return subprocess.run(  # noqa: S603 - our own words
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site or "")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist, the wheel built from it, and the wheel unpacked as site."""
    if not importlib.util.find_spec("build"):
        pytest.skip("needs the package `build`")
    if Version(metadata.version("setuptools")) < Version("77"):
        pytest.skip("needs setuptools 77 or later, as pyproject.toml says")
    folder = tmp_path_factory.mktemp("dist")
    source = shutil.copytree(ROOT, folder / "source", ignore=UNBUILT)
    done = _python(folder, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source))
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    shutil.unpack_archive(wheel, folder / "site", "zip")
    return folder


def _files(folder: Path) -> set[str]:
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)) for p in found}


def test_the_wheel_holds_the_six_parts_whole_and_nothing_else(distributions: Path) -> None:
    site = distributions / "site"
    names = {f"cnnformance-{cnnformance.__version__}.dist-info", "cnnformance"}
    assert {path.name for path in site.iterdir()} == names
    expected = _files(ROOT / "cnnformance")
    for part in PARTS:
        expected |= {f"{part}/{name}" for name in _files(ROOT / part)}
    assert _files(site / "cnnformance") == expected


def test_the_sdist_holds_the_tests_and_the_documents(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("tests", "docs", "benchmarks"):
        assert {f"{folder}/{name}" for name in _files(ROOT / folder)} <= names
    assert {"Makefile", "README.md", "LICENSE", "CHANGELOG.md", ".ci/run"} <= names


def test_the_wheel_asks_and_reports_from_an_empty_folder(
    distributions: Path, tmp_path: Path
) -> None:
    asked = ["--pyargs", "cnnformance.conformance", "--backend=numpy", "--profile=quick"]
    site = distributions / "site"
    few = ["-q", "-p", "no:cacheprovider", "-k", "flatten.example or dense.example"]
    done = _python(tmp_path, "-m", "pytest", *asked, *few, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = tmp_path.glob(".cnnformance/*/verdicts.jsonl")
    assert records.read(record).recorded > 1
    done = _python(tmp_path, "-m", "cnnformance", "report", site=site)
    assert done.returncode == 0, done.stderr
    assert "No findings" in done.stdout
    done = _python(tmp_path, "-m", "cnnformance", "backends", site=site)
    assert done.returncode == 0, done.stderr
    assert f"numpy {metadata.version('numpy')}" in done.stdout
    done = _python(tmp_path, "-c", "import cnnformance; print(*cnnformance.__path__)", site=site)
    assert done.stdout.strip() == str(site / "cnnformance")


def test_the_plugin_is_inert_in_sessions_that_are_not_ours(
    distributions: Path, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    for name in ('--backend', '--profile', '--seed', '--record', '--timeout'):\n"
        "        parser.addoption(name, default='theirs')\n"
    )
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n"
        "def test_theirs(request):\n"
        "    assert request.config.getoption('--backend') == 'theirs'\n"
        "    assert request.config.pluginmanager.has_plugin('cnnformance')\n"
        "    ours = {'cnnformance.pytest_plugin', 'cnnformance.adapters'}\n"
        "    assert not ({'numpy', 'pydantic'} | ours) & set(sys.modules)\n"
    )
    done = _python(tmp_path, "-m", "pytest", "-q", site=distributions / "site")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / ".cnnformance").exists()
