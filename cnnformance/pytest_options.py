"""The suite's options of pytest: their types, and an error for what cannot be used."""

from __future__ import annotations

import argparse
import math
import re
import threading
from collections.abc import Callable, Collection
from typing import Any, get_args

import pytest

from cnnformance.conformance.profiles import PROFILES
from cnnformance.reports.printable import printable
from cnnformance.spec import clauses
from cnnformance.spec.suggestions import instead

LEVELS: tuple[clauses.Level, ...] = get_args(clauses.Level)
"""The levels of clauses, in the order in which a question of several takes one."""

_LARGEST = 2.0**33
"""The GiB that a 64-bit size holds."""


def add_options(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("cnnformance", "CNN conformance")
    group.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="SUBJECT",
        help="NAME[:MODE][@DEVICE], package.module:Class or path/to/file.py:Class, or a function "
        "in the place of the class; may be repeated; default: every installed backend",
    )
    group.addoption(
        "--profile",
        type=_one_of(PROFILES),
        default="default",
        metavar="|".join(PROFILES),
        help="how much is asked",
    )
    group.addoption(
        "--level",
        action="append",
        type=_one_of(LEVELS),
        default=[],
        metavar="|".join(LEVELS),
        help="ask only what clauses of this level say; may be repeated; default: all",
    )
    group.addoption(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="time limit of one request (30)"
    )
    group.addoption(
        "--memory-limit", type=_size, default=8.0, metavar="GIB", help="of a worker; 0: none (8)"
    )
    group.addoption(
        "--budget",
        type=_seconds,
        metavar="S",
        help="seconds of the whole run, after which questions are not run; default: no limit",
    )
    group.addoption("--seed", type=_seed, default=0, help="seed of all drawn cases (0)")
    group.addoption(
        "--shard",
        type=_shard,
        metavar="K/N",
        help="ask a fixed part of each subject's questions, the K-th of N; default: all",
    )
    group.addoption("--record", metavar="FILE", help="where the verdicts go")
    group.addoption(
        "--in-process", action="store_true", help="run backends in this process, for debuggers"
    )
    group.addoption("--link", type=int, help=argparse.SUPPRESS)  # a socket, as ``Subject`` has it


def _one_of(names: Collection[str]) -> Callable[[str], str]:
    """Return what takes one of some words, and for a misspelt one says what was meant."""

    def word(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"no {text}; {instead(text, names)}")
        return text

    return word


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(text: str) -> float:
    """Return a time limit; argparse names the option in its error."""
    if not 0 < (value := _number(text)) <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return value


def _size(text: str) -> float:
    if not 0 <= (value := _number(text)) < _LARGEST:
        raise argparse.ArgumentTypeError(f"{text} is no size of 0 or more, in GiB")
    return value


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (re.fullmatch(r"[1-9]\d{0,4}/[1-9]\d{0,4}", text) and int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is no part such as 3/8, from 1/8 to 8/8")
    return int(number), int(count)


def _seed(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text} is no integer of 0 or more")
    return int(text)


def option(config: pytest.Config, name: str) -> Any:
    """Return the value of an option of ours; each has a default."""
    return config.getoption(name)


def unusable(said: str) -> pytest.UsageError:
    """Return what ends the run before it begins, in one line: it may quote paths and files."""
    return pytest.UsageError(" ".join(printable(said).split()))
