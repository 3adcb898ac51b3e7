"""What shells complete, asked as a person asks: some words, and the tabulator."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

IN_BASH = """
eval "$(<completion.txt)"
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_shtab_cnnformance 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
"""What bash does when the tabulator is pressed after some words."""

IN_ZSH = (
    'bindkey -e; autoload -U compinit; compinit -u -D; eval "$(<completion.txt)"; print re""ady\r',
    "{words}\t\x01print -r -- comple''ted \r",
)
"""What a person types to zsh, up to the tabulator, and then to see the line that it made."""

COMPLETED = {
    "cnnformance compl": "completion",
    "cnnformance completion z": "zsh",
    "cnnformance report --fo": "--format",
    "cnnformance report --format h": "html",
    "cnnformance report --layer Max": "MaxPool",
    "cnnformance report pre": "previous",
    "cnnformance diff 2026": "20260102-030405-678",
    "cnnformance compare torch tens": "tensorflow",
    "cnnformance try kern": "kernels.py",
    "cnnformance report --output k": "kernels.py",
    "cnnformance clauses --level doc": "document",
}
"""Words, and what the last one of them becomes."""


def _folder(tmp_path: Path, shell: str) -> Path:
    """Return a folder with a file, a run, and the script for a shell."""
    (tmp_path / "kernels.py").touch()
    (tmp_path / ".cnnformance" / "20260102-030405-678").mkdir(parents=True)
    command = [sys.executable, "-P", "-m", "cnnformance", "completion", shell]
    with (tmp_path / "completion.txt").open("w") as script:
        subprocess.run(command, cwd=tmp_path, stdout=script, check=True)  # noqa: S603 - our own
    return tmp_path


def test_bash_completes(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    folder = _folder(tmp_path, "bash")
    for words, whole in COMPLETED.items():
        done = subprocess.run(  # noqa: S603 - our own words
            [bash, "--norc", "-c", IN_BASH.format(words=words)],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == f"{whole}\n", words


def test_zsh_completes(tmp_path: Path) -> None:
    zsh = shutil.which("zsh")
    if not zsh:
        pytest.skip("needs a shell: install Debian's package zsh")
    folder = _folder(tmp_path, "zsh")
    for words, whole in COMPLETED.items():
        line = f"{words.rpartition(' ')[0]} {whole}"
        assert _completed(zsh, folder, words) == line


def _completed(zsh: str, folder: Path, words: str) -> str:
    """Return the line that a terminal with zsh makes of some words."""
    terminal, end = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200", "PS1": ""}
    shell = subprocess.Popen(  # noqa: S603 - a shell of the system
        [zsh, "-fi"],
        cwd=folder, env=environment, stdin=end, stdout=end, stderr=end, start_new_session=True,
    )  # fmt: skip
    os.close(end)
    try:
        os.write(terminal, IN_ZSH[0].encode())
        _read(terminal, r"ready\r\n()")
        os.write(terminal, IN_ZSH[1].format(words=words).encode())
        return _read(terminal, r"completed (.*?) ?\r\n")
    finally:
        os.close(terminal)
        shell.kill()
        shell.wait()


def _read(terminal: int, pattern: str) -> str:
    """Return what a pattern captures of all that a terminal shows from now on."""
    shown, end = "", time.monotonic() + 20
    while not (found := re.search(pattern, shown)):
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode()
    return found[1]
