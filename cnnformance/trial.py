"""``cnnformance try``: an adapter in seconds. Each layer once in each dtype, and each method.

What breaks the contract comes first, with a remedy; then wrong answers, with the mistake that would
explain them. At last faults are put behind the adapter, which it must pass on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

from cnnformance import trial_scripts
from cnnformance.adapters import registry, sources
from cnnformance.adapters.backend import Layout, Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Refused, Stopped, Unknown
from cnnformance.adapters.subject import Subject
from cnnformance.spec import layers as spec
from cnnformance.trial_layer import LayerTrial
from cnnformance.trial_report import Problem, Trial

_SECONDS = 30.0
"""The longest wait for one answer."""
_HANGS = 3
"""So many layers may hang; no more are asked then."""
_SLOW = 1.0
"""The seconds above which a static answer about a large layer looks computed."""
_HUGE = spec.Dense(400_000, 300_000)
"""A layer whose weights no machine allocates: 480 GB."""
_LARGE = spec.Dense(20_000, 5_000)
"""One whose weights most machines do, in seconds: 400 MB."""
_OURS = ("cnnformance.reference", "cnnformance.conformance")
"""What an adapter may not import: it would answer with what it is compared with."""


def attempt(name: str) -> Trial:
    """Try the adapter of this subject.

    Raises:
        SubjectError: the name means nothing.
        Unavailable: there is no such version to be had.
        Unknown: there is no such class, mode or device.
    """
    target = registry.parse(name)
    subject = Subject(target, seconds=_SECONDS)
    trial = Trial(name)
    try:
        trial.contract += _forbidden(target)
        try:
            info = subject.start()
        except Unknown:
            raise
        except AdapterBroke as error:
            said = error.traceback.strip().splitlines()[-1:] or [str(error)]
            remedy = "its module is imported, and the class made with mode and device, by a worker"
            trial.contract.append(Problem("", "start", f"{error} ({said[0]})", remedy))
            return trial
        trial.version = info.version
        for layer_type in spec.TYPES.values():
            LayerTrial(trial, subject, layer_type).ask()
            if sum("HANG" in row.values() for row in trial.cells.values()) >= _HANGS:
                hang = f"{_HANGS} layers hang, and the others were not tried"
                trial.contract.append(Problem("", "build", hang, "run one call by hand"))
                return trial
        _Whole(trial, subject).ask()
    finally:
        subject.close()
    return trial


def _forbidden(target: registry.Target) -> Iterator[Problem]:
    if registry.is_command(target.path):
        return
    module = target.path.rpartition(":")[0]
    source = sources.read(target.file) if target.file else sources.of(module)
    for each in source.imported() if source else ():
        if each.startswith(_OURS):
            said = f"it imports {each}, with which its answers are compared"
            yield Problem("", "import", said, "answer with the framework's own layers alone")


@dataclass
class _Whole:
    """The trial of what concerns no single layer: dtypes, the seed, large layers, scripts."""

    trial: Trial
    subject: Subject

    def ask(self) -> None:
        cells = self.trial.cells
        answered = {d for row in cells.values() for d, word in row.items() if word != "no"}
        if not answered:
            said = "Unsupported is raised for every layer, so that nothing would be asked"
            remedy = "return a layer for one type at least; `raise Unsupported` stands last"
            self.trial.contract.append(Problem("", "build", said, remedy))
            return
        right = any("ok" in row.values() for row in cells.values())
        for dtype in self.subject.info.dtypes:
            words = {row.get(dtype, "no") for row in cells.values()}
            if "ok" not in words and right:
                said = f"{dtype} is claimed, and no layer gives a right answer in it"
                remedy = "leave it out of dtypes, if the framework does not take it"
                declined = words == {"no"}  # which supports, or a mode, may be right to do
                put = self.trial.hints if declined else self.trial.contract
                put.append(Problem("", "dtypes", said, remedy))
        try:
            self.subject.seed(1)
        except (Unsupported, Refused, Crashed, AdapterBroke, Stopped) as error:
            self.trial.contract.append(Problem("", "seed", str(error), "it returns nothing"))
        self._sizes()
        layout = cast("Layout", self.subject.info.layout)
        for problem in trial_scripts.problems(self.trial.scripts, layout, self.subject.python):
            cells[problem.layer]["script"] = "BROKEN"
            self.trial.contract.append(problem)

    def _sizes(self) -> None:
        """Ask for counts and shapes of layers that are too large to allocate.

        A wrong or slow answer is a hint and no fault: some frameworks cannot but allocate.
        """
        row = self.trial.cells[spec.Dense.__name__]
        asked: list[tuple[str, spec.Dense, Callable[[], object]]] = []
        if row.get("count") == "ok":
            asked += [("parameters", _HUGE, partial(self.subject.parameters, [_HUGE]))]
        if row.get("shape") == "ok":
            shape = (1, _LARGE.in_features)
            static = partial(self.subject.output_shape, [_LARGE], shape)
            asked += [("output_shape", _LARGE, static)]
        for method, layer, call in asked:
            start = time.monotonic()
            said = ""
            try:
                call()
            except (Unsupported, Refused, Crashed, AdapterBroke, Stopped) as error:
                said = f"of {layer}: {error}"
            seconds = time.monotonic() - start
            if not said and seconds > _SLOW:
                said = f"of {layer} took {seconds:.1f} s"
            if said:
                remedy = "make the layer without its weights, if the framework can: they are large"
                self.trial.hints.append(Problem("Dense", method, said, remedy))
