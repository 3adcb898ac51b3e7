"""The scripts that an adapter writes, run as a reader would: each must give the right output."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from cnnformance import trial_mistakes
from cnnformance.adapters import installers
from cnnformance.adapters.backend import Array, Layout
from cnnformance.conformance import judge
from cnnformance.spec import layers as spec
from cnnformance.trial_report import Problem, Script

_SECONDS = 60.0
"""The longest wait for all scripts."""
_HANGS = "run alone it does not end"
_RUN_ALL = """
import json
import ml_dtypes
import numpy as np
for number, source in enumerate(json.load(open("sources.json"))):
    kept = np.load(f"{number}.npz")  # which forgets the name of bfloat16
    arrays = {n: a.view(ml_dtypes.bfloat16) if a.dtype == "V2" else a for n, a in kept.items()}
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


def problems(scripts: Sequence[Script], layout: Layout, python: str) -> Iterator[Problem]:
    """Run scripts in a process that knows nothing of the adapter, and yield what is wrong.

    They share one process of ``python``, whose framework is imported once. One that fails there is
    run again in one of its own, which tells; after one that does not end, no more are.
    """
    for script, together in zip(scripts, _run(scripts, layout, python), strict=True):
        if together is None:
            continue
        (alone,) = _run([script], layout, python)
        if alone is not None:
            yield alone
            if alone.said == _HANGS:
                return


def _run(scripts: Sequence[Script], layout: Layout, python: str) -> list[Problem | None]:
    """Run scripts one after the other, and return what is wrong with each."""
    with tempfile.TemporaryDirectory(prefix="cnnformance-") as folder:
        told = Path(folder, "told.json")
        for number, script in enumerate(scripts):
            arrays: dict[str, Any] = {"x": script.x, **script.weights}
            np.savez(Path(folder, f"{number}.npz"), **arrays)
        sources = json.dumps([script.source for script in scripts])
        Path(folder, "sources.json").write_text(sources, encoding="utf-8")
        unfinished = "run alone it ends the process"
        try:
            subprocess.run(  # noqa: S603 - our own words, and the adapter's
                [python, "-P", "-c", _RUN_ALL],
                cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                timeout=_SECONDS, env=_variables(python),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            unfinished = _HANGS
        lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
        found: list[Problem | None] = []
        for number, script in enumerate(scripts):
            if number >= len(lines):
                found.append(_problem(script, unfinished))
            elif raised := json.loads(lines[number]):
                found.append(_problem(script, f"run alone it raises {raised}"))
            else:
                y = np.load(Path(folder, f"y{number}.npy"))
                y = y.view(ml_dtypes.bfloat16) if y.dtype == "V2" else y
                found.append(_judged(script, y, layout))
        return found


def _variables(python: str) -> dict[str, str]:
    """Return the environment of scripts, in which Node finds the packages of this folder too."""
    known = os.environ.get("NODE_PATH", "").split(os.pathsep)
    here = str(Path("node_modules").absolute())
    path = os.pathsep.join([here, *filter(None, known)])
    return {**installers.variables(python), "NODE_PATH": path}


def _judged(script: Script, y: Array, layout: Layout) -> Problem | None:
    if spec.takes_images([script.case.layer]) and layout == "channels_first" and y.ndim >= 3:
        y = np.moveaxis(y, 1, -1)
    try:
        judge.output(script.case, y)
    except judge.Failure as failure:
        mistake = trial_mistakes.explained(script.case, y, layout)
        return _problem(script, f"run alone it gives another result: {failure}", mistake)
    return None


def _problem(script: Script, said: str, remedy: str = "") -> Problem:
    remedy = remedy or "it reads x and weights, imports the framework, and is to set y"
    return Problem(script.layer, "script", said, remedy)
