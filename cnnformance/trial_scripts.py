"""The scripts that an adapter writes, run as a reader would: each must give the right output."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnformance import traps
from cnnformance.adapters.backend import Array, Layout
from cnnformance.conformance import judge
from cnnformance.spec import layers as spec
from cnnformance.trial_report import Problem, Script

_SECONDS = 60.0
"""The longest wait for all scripts."""
_RUN_ALL = """
import json
import numpy as np
for number, source in enumerate(json.load(open("sources.json"))):
    arrays = dict(np.load(f"{number}.npz"))
    names = {"np": np, "x": arrays.pop("x"), "weights": arrays}
    try:
        exec(source, names)
        y, raised = np.asarray(names["y"]), ""
        np.save(f"y{number}.npy", y, allow_pickle=False)
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    with open("told.json", "a") as told:
        told.write(json.dumps(raised) + "\\n")
"""


def problems(scripts: Sequence[Script], layout: Layout) -> Iterator[Problem]:
    """Run scripts one after the other, in a process that knows nothing of the adapter.

    Yield what is wrong with them; after one that does not end, the others are not run.
    """
    with tempfile.TemporaryDirectory(prefix="cnnformance-") as folder:
        told = Path(folder, "told.json")
        for number, script in enumerate(scripts):
            arrays: dict[str, Any] = {"x": script.x, **script.case.weights}
            np.savez(Path(folder, f"{number}.npz"), **arrays)
        sources = json.dumps([script.source for script in scripts])
        Path(folder, "sources.json").write_text(sources, encoding="utf-8")
        with contextlib.suppress(subprocess.TimeoutExpired):  # told below: one has no end
            subprocess.run(  # noqa: S603 - our own words, and the adapter's
                [sys.executable, "-P", "-c", _RUN_ALL],
                cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                timeout=_SECONDS,
            )  # fmt: skip
        lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
        for script, line in zip(scripts, lines, strict=False):
            if raised := json.loads(line):
                yield _problem(script, f"run alone it raises {raised}")
        if len(lines) < len(scripts):
            yield _problem(scripts[len(lines)], "run alone it ends the process, or does not end")
        for number, line in enumerate(lines):
            if not json.loads(line):
                y = np.load(Path(folder, f"y{number}.npy"))
                yield from _judged(scripts[number], y, layout)


def _judged(script: Script, y: Array, layout: Layout) -> Iterator[Problem]:
    if spec.takes_images([script.case.layer]) and layout == "channels_first" and y.ndim >= 3:
        y = np.moveaxis(y, 1, -1)
    try:
        judge.output(script.case, y)
    except judge.Failure as failure:
        mistake = traps.explained(script.case, y, layout)
        yield _problem(script, f"run alone it gives another result: {failure}", mistake)


def _problem(script: Script, said: str, remedy: str = "") -> Problem:
    remedy = remedy or "it reads x and weights, imports the framework, and is to set y"
    return Problem(script.layer, "script", said, remedy)
