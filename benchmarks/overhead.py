"""What it costs to ask a framework in a process of its own.

    python benchmarks/overhead.py SUBJECT... [--repeats N] [--profile P]

Per subject: its start, its restart after a crash, and for some cases the time of a request beside
the time that the framework took within it (medians of one run, so the ratio does not depend on the
machine's load as times do). Then the time of ``cnnformance backends``; and with ``--profile``, how
long a conformance run takes for an example, and how much of it inside the framework.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cnnformance.adapters import registry  # noqa: E402 - found through the path above
from cnnformance.adapters.subject import Subject  # noqa: E402 - likewise
from cnnformance.reports import records  # noqa: E402 - likewise
from cnnformance.spec import layers as spec  # noqa: E402 - likewise

CASES: tuple[tuple[spec.Layer, spec.Shape], ...] = (
    (spec.ReLU(), (1, 8, 8, 4)),
    (spec.Dense(64, 10), (8, 64)),
    (spec.MaxPool((2, 2)), (1, 8, 8, 4)),
    (spec.MaxPool((2, 2)), (8, 32, 32, 16)),
    (spec.MaxPool((2, 2)), (8, 128, 128, 16)),
    (spec.Conv((3, 3), in_channels=4, out_channels=8), (1, 8, 8, 4)),
)

Row = list[str | int | float]


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def request(subject: Subject, layer: spec.Layer, shape: spec.Shape, repeats: int) -> Row:
    """Return the median microseconds inside the framework and of the request, and their ratio."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    weights = {
        name: rng.normal(size=size).astype(np.float32)
        for name, size in spec.weight_shapes(layer).items()
    }
    inside: list[float] = []

    def ask() -> None:
        inside.append(subject.run([layer], [weights], x).seconds)

    ask()
    whole = [seconds(ask) for _ in range(repeats)]
    framework, total = (1e6 * statistics.median(times) for times in (inside[1:], whole))
    case = f"{type(layer).__name__} {'x'.join(map(str, shape))}"
    times = [round(framework), round(total), round(total - framework)]
    return [subject.name, case, x.nbytes, *times, total / framework]


def restart(subject: Subject) -> None:
    """Continue in a fresh process, up to its first answer."""
    subject.restart()
    subject.start()


class Subjects:
    """A pytest plugin that keeps the subjects that were asked."""

    def __init__(self) -> None:
        """Keep none yet."""
        self.asked: dict[str, Subject] = {}

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Keep the subject of a question."""
        subject = getattr(item, "funcargs", {}).get("subject")
        if isinstance(subject, Subject):
            self.asked[subject.name] = subject


def share(name: str, profile: str) -> Row:
    """Return what a conformance run cost: in all, for an example, and inside the framework."""
    kept = Subjects()
    arguments = [str(ROOT / "conformance"), f"--backend={name}", f"--profile={profile}", "-q"]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments += [f"--record={folder}/verdicts.jsonl", "-p", "no:cacheprovider"]
        total = seconds(partial(pytest.main, arguments, plugins=[kept]))
        examples = sum(v.examples for v in records.read(Path(folder) / "verdicts.jsonl").verdicts)
    subject = kept.asked[name]
    inside = subject.framework_seconds
    each = 1e3 * total / examples
    return [name, profile, subject.requests, examples, total, each, inside, inside / total]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", default=["numpy"])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--profile", action="append", default=[], help="may be repeated")
    options = parser.parse_args()
    starts: list[Row] = []
    requests: list[Row] = []
    for name in options.subjects:
        subject = Subject(registry.parse(name))
        started = seconds(subject.start)
        requests += [request(subject, layer, shape, options.repeats) for layer, shape in CASES]
        restarts = [seconds(partial(restart, subject)) for _ in range(5)]
        starts.append([name, subject.info.version, started, statistics.median(restarts)])
        subject.close()
    backends = [sys.executable, "-m", "cnnformance", "backends"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def list_backends() -> None:
        subprocess.run(backends, env=environment, check=True, capture_output=True)  # noqa: S603 - our own words

    listed = statistics.median(seconds(list_backends) for _ in range(5))
    tables: list[tuple[list[str], list[Row]]] = [
        (["subject", "version", "start s", "restart s"], starts),
        (["subject", "case", "bytes", "framework µs", "request µs", "more µs", "ratio"], requests),
        (["command", "s"], [["cnnformance backends", listed]]),
    ]
    if options.profile:
        head = ["subject", "profile", "requests", "examples", "run s", "ms each"]
        head += ["in the framework s", "share"]
        runs = [share(name, profile) for profile in options.profile for name in options.subjects]
        tables.append((head, runs))
    for head, rows in tables:
        sys.stdout.write(tabulate(rows, head, floatfmt=".3g") + "\n\n")


if __name__ == "__main__":
    main()
