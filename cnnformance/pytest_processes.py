"""The processes of pytest-xdist: what they cannot be told, and their end with the run."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

_LOOKS = 1.0
"""Seconds between two looks at whether the process that began the run is still there."""


def require_unicode(config: pytest.Config) -> None:
    """Refuse a path that is no UTF-8, which cannot be handed on to the processes.

    Raises:
        UsageError: there is one in the options, or in where the run begins.
    """
    options = [v for value in vars(config.option).values() for v in (value, *_listed(value))]
    for text in (str(Path.cwd()), str(config.rootpath), sys.executable, *sys.path, *options):
        if isinstance(text, str) and not _is_unicode(text):
            said = "is no UTF-8, and cannot be handed on to several processes (-n)"
            raise pytest.UsageError(f"{text!a} {said}: rename it, or ask with -n 0")


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def end_with_the_run() -> None:
    """End this process soon after the one that began the run is gone, as after a kill."""
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOKS)
    os._exit(1)
