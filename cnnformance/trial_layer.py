"""The trial of one layer type of an adapter: each dtype, each method, and faults behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

import numpy as np

from cnnformance import trial_mistakes
from cnnformance.adapters.backend import Array, Layout, Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Hung, Refused, Stopped
from cnnformance.adapters.faults import FAULTS, NAN
from cnnformance.adapters.subject import Subject
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Given
from cnnformance.conformance.parametrize import dtypes
from cnnformance.reference import output_shape, parameter_count
from cnnformance.spec import layers as spec
from cnnformance.trial_cases import case_of, cases_of
from cnnformance.trial_report import Problem, Script, Trial

T = TypeVar("T")


@dataclass
class LayerTrial:
    """The trial of one layer type."""

    trial: Trial
    subject: Subject
    layer_type: type[spec.Layer]
    right: dict[str, Given] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the layer type."""
        return self.layer_type.__name__

    def ask(self) -> None:
        """Ask everything of the layer type; what is found stands in the trial."""
        self.cells = self.trial.cells.setdefault(self.name, {})
        (layer, shape), *others = cases_of(self.layer_type)
        for dtype in dtypes(self.layer_type):
            self._once(case_of(layer, shape, dtype), dtype, dtype)
            if "HANG" in self.cells.values():
                return
        if not self.right:
            return
        dtype = "float32" if "float32" in self.right else next(iter(self.right))
        for layer, shape in others:
            self._once(case_of(layer, shape, dtype), "options", "")
        case = self.right[dtype]
        self._twice(case)
        self._methods(case)
        self._faults(case)

    def _note(self, column: str, word: str) -> None:
        """Enter a word in the table: the worst that fell in its column."""
        order = ["no", "ok", "raises", "WRONG", "CRASH", "HANG", "BROKEN"]
        old = self.cells.get(column, "no")
        self.cells[column] = max(old, word, key=order.index)

    def _broken(self, method: str, said: str, remedy: str = "") -> None:
        self.trial.contract.append(Problem(self.name, method, said, remedy))

    def _wrong(self, method: str, said: str, remedy: str = "") -> None:
        self.trial.wrong.append(Problem(self.name, method, said, remedy))

    def _put(self, call: Callable[[], T], column: str, method: str) -> T | None:
        """Return what a request returns; None where it went wrong, which the trial then holds."""
        try:
            answer = call()
        except Unsupported as reason:
            self._note(column, "no")
            if not str(reason).startswith(f"{self.name} does not take "):  # the table says it
                self.trial.reasons.setdefault(str(reason), []).append(self._row(method))
        except (Refused, Stopped) as error:
            self._note(column, "raises")
            self._refused(method, str(error))
        except Hung as error:
            self._note(column, "HANG")
            self._broken(method, f"it hangs: {error}")
        except Crashed as error:
            self._note(column, "CRASH")
            tail = error.stderr.strip().splitlines()[-1:]
            self._wrong(method, f"{error} {' '.join(tail)}")
        except AdapterBroke as error:
            self._note(column, "BROKEN")
            self._broken(method, str(error), _remedy(str(error)))
        else:
            return answer
        return None

    def _row(self, method: str) -> str:
        tried = method.removeprefix("build, ")
        return tried if tried.startswith(self.name) else self.name

    def _refused(self, method: str, said: str) -> None:
        remedy = "raise Unsupported for what the framework has not"
        if method.startswith("build, ") and self.right:
            dtype = method.removeprefix("build, ").partition(" ")[0]
            remedy = (
                f"supports({self.name}, {dtype!r}) says that it takes {dtype}: override it, or "
                "leave the dtype out of dtypes, if the framework has no such layer"
            )
        self._wrong(method, f"it raises {said}", remedy)

    def _once(self, case: Given, column: str, dtype: str) -> None:
        method = f"build, {dtype}" if dtype else f"build, {case.layer}"
        run = partial(self.subject.run, [case.layer], [case.weights], case.x)
        result = self._put(run, column, method)
        if result is None:
            return
        if result.modified:
            said = "the call changes its input or its weights"
            self._broken(method, said, "copy before a call that works in place")
        try:
            judge.output(case, result.y)
        except judge.Failure as failure:
            self._note(column, "WRONG")
            self._unlike(method, case, result.y, failure)
        else:
            self._note(column, "ok")
            if dtype:
                self.right[dtype] = case

    def _unlike(self, method: str, case: Given, y: Array, failure: judge.Failure) -> None:
        if y.dtype != case.x.dtype:
            said = f"the result is of {y.dtype}, and the input of {case.x.dtype}"
            remedy = "keep the dtype on the way in and out, or leave it out of dtypes"
            self._broken(method, said, remedy)
            return
        mistake = trial_mistakes.explained(case, y, cast("Layout", self.subject.info.layout))
        self._wrong(method, failure.message, mistake)

    def _twice(self, case: Given) -> None:
        other = case.x[::-1].copy()
        found = self._put(
            lambda: self.subject.run_twice(case.layer, case.weights, case.x, other),
            "calls", "three calls",
        )  # fmt: skip
        if found is None:
            return
        if found.aliases_input and not isinstance(case.layer, spec.Flatten):
            said = "the result shares memory with the input"
            self._broken("three calls", said, "return the framework's own result, or copy it")
        if found.aliases_output or found.first.tobytes() != found.later.tobytes():
            said = "a later call changes, or shares memory with, an earlier result"
            self._broken("three calls", said, "do not return a buffer that is used again")
        if found.first.tobytes() != found.again.tobytes() and self.subject.info.deterministic:
            said = "equal calls give different results"
            self._broken("three calls", said, "keep no state, or set deterministic = False")
        self._note("calls", "ok")

    def _methods(self, case: Given) -> None:
        layer, shape = case.layer, tuple(case.x.shape)
        stated = self._put(
            lambda: self.subject.output_shape([layer], shape), "shape", "output_shape"
        )
        if stated is not None:
            right = output_shape(layer, shape)
            self._note("shape", "ok" if stated == right else "WRONG")
            if stated != right:
                said = f"for {shape} it states {stated}, and not {right} (channels last)"
                self._broken(
                    "output_shape", said, trial_mistakes.shape_explained(layer, shape, stated)
                )
        held = (
            [layer, *(other for other, _ in cases_of(self.layer_type)[1:])]
            if layer.has_weights
            else []
        )
        for each in held or [layer]:
            count = self._put(partial(self.subject.parameters, [each]), "count", "parameters")
            if count is not None:
                right_count = parameter_count(each)
                self._note("count", "ok" if count == right_count else "WRONG")
                if count != right_count:
                    said = f"{count} for {each}, which has {right_count}"
                    self._broken("parameters", said, trial_mistakes.count_explained(each, count))
        self._gradients(case)
        self._script(case)

    def _gradients(self, case: Given) -> None:
        if case.x.dtype.kind in "iu":
            return
        shape = output_shape(case.layer, case.x.shape)
        rng = np.random.default_rng(1)
        upstream = (rng.integers(1, 5, shape) * rng.choice([-1, 1], shape)).astype(case.x.dtype)
        call = partial(self.subject.gradients, case.layer, case.weights, case.x, upstream)
        found = self._put(call, "gradient", "gradients")
        if found is None:
            return
        if found.modified:
            self._broken("gradients", "it changes its input, weights or upstream", "copy them")
        try:
            list(judge.gradients(case.layer, case.x, case.weights, upstream, found.arrays))
        except judge.Failure as failure:
            self._note("gradient", "WRONG")
            mistake = trial_mistakes.gradient_explained(case, upstream, found.arrays)
            put = self._broken if failure.effect in ("shape", "dtype") else self._wrong
            put("gradients", failure.message, mistake)
        else:
            self._note("gradient", "ok")

    def _script(self, case: Given) -> None:
        image = spec.takes_images([case.layer]) and self.subject.info.layout == "channels_first"
        x = np.moveaxis(case.x, -1, 1) if image else case.x
        source = self._put(lambda: self.subject.script(case.layer, [x]), "script", "script")
        if source is None:
            return
        self._note("script", "ok")
        native = self.subject.info.axes.native
        weights = {n: native(case.layer, n, array) for n, array in case.weights.items()}
        self.trial.scripts.append(Script(self.name, source, case, x, weights))

    def _faults(self, case: Given) -> None:
        """Put faults on the framework's result, and note those that the adapter hides.

        It hides a fault if its answer is right all the same.
        """
        try:
            y = self.subject.run([case.layer], [case.weights], case.x).y
        except (Unsupported, Refused, Crashed, AdapterBroke, Stopped):
            return
        others = [d for d in self.right if d != case.x.dtype.name and dtype_named(d).kind == "f"]
        faults = FAULTS if y.dtype.kind not in "iu" else FAULTS.keys() - {NAN}
        names = [name for name in FAULTS if name in faults and _wrong(case, FAULTS[name](y))]
        for fault in [*names, *others[:1]]:
            self.trial.faults += 1
            try:
                faulty = self.subject.run([case.layer], [case.weights], case.x, fault=fault)
                judge.output(case, faulty.y)
            except (judge.Failure, Unsupported, Refused, Crashed, AdapterBroke, Stopped):
                continue
            what = fault if fault in FAULTS else f"a result of {fault}"
            said = f"{what} on the framework's result is not seen in the answer"
            remedy = "to_numpy returns what it is given, in the shape and dtype that it has"
            self.trial.hidden.append(Problem(self.name, "to_numpy", said, remedy))


def _wrong(case: Given, y: Array) -> bool:
    """Whether an answer is wrong; a large half that is off by one is not."""
    try:
        judge.output(case, y)
    except judge.Failure:
        return True
    return False


def _remedy(said: str) -> str:
    """Return what to do about a breach that the worker tells."""
    if "object" in said:
        return "return the framework's tensor, and turn it into a numpy.ndarray in to_numpy"
    if "no callable" in said:
        return "return a callable, or raise Unsupported"
    return "docs/adapters.md says what each method returns"
