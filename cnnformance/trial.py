"""``cnnformance try``: an adapter in seconds. Each layer once in each dtype, and each method.

What breaks the contract comes first, with a remedy; then wrong answers, with the mistake that would
explain them. At last faults are put behind the adapter, which it must pass on.
"""

from __future__ import annotations

import ast
import math
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import util
from pathlib import Path
from typing import TypeVar

import numpy as np
from tabulate import tabulate

from cnnformance import traps
from cnnformance.adapters import registry
from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.faults import FAULTS
from cnnformance.adapters.subject import (
    AdapterBroke,
    Crashed,
    Hung,
    Refused,
    Stopped,
    Subject,
    Unknown,
)
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.kinds import FLOATS, INTEGERS, dtypes
from cnnformance.conformance.models import Given, given
from cnnformance.reference import output_shape, parameter_count
from cnnformance.reports.printable import printable
from cnnformance.spec import layers as spec

T = TypeVar("T")

_SECONDS = 20.0
"""The longest wait for one answer."""
_SLOW = 1.0
"""The seconds above which a static answer about a large layer looks computed."""
_HUGE = spec.Dense(400_000, 300_000)
"""A layer whose weights no machine allocates: 480 GB."""
_LARGE = spec.Dense(20_000, 5_000)
"""One whose weights most machines do, in seconds: 400 MB."""
_COLUMNS = (*FLOATS, *INTEGERS, "options", "calls", "shape", "count", "gradient", "script")
_OURS = ("cnnformance.reference", "cnnformance.conformance")
"""What an adapter may not import: it would answer with what it is compared with."""

CASES: Mapping[type[spec.Layer], Sequence[tuple[spec.Layer, spec.Shape]]] = {
    spec.AveragePool: [
        (spec.AveragePool((2, 3), (1, 2)), (2, 5, 6, 3)),
        (spec.AveragePool((3, 3), (2, 2), ((1, 1), (1, 1))), (2, 5, 6, 3)),
        (
            spec.AveragePool((3, 3), (2, 2), ((1, 1), (1, 1)), count_include_pad=True),
            (2, 5, 6, 3),
        ),
    ],
    spec.StochasticPool: [(spec.StochasticPool((2, 2)), (2, 4, 6, 3))],
    spec.GlobalAveragePool: [(spec.GlobalAveragePool(2), (2, 4, 5, 3))],
    spec.GlobalMaxPool: [(spec.GlobalMaxPool(2), (2, 4, 5, 3))],
    spec.AdaptiveAveragePool: [(spec.AdaptiveAveragePool((2, 3)), (2, 5, 6, 3))],
    spec.AdaptiveMaxPool: [(spec.AdaptiveMaxPool((2, 3)), (2, 5, 6, 3))],
    spec.Conv: [
        (spec.Conv((3, 2), in_channels=4, out_channels=4), (2, 4, 4, 4)),
        (spec.Conv((3, 3), (2, 1), in_channels=4, out_channels=4, bias=False), (2, 4, 4, 4)),
        (spec.Conv((2, 2), in_channels=4, out_channels=6, groups=2), (2, 4, 5, 4)),
        (spec.Conv((2,), in_channels=3, out_channels=2, padding=((1, 1),)), (2, 6, 3)),
    ],
    spec.ReLU: [(spec.ReLU(), (2, 4, 5, 3))],
    spec.Flatten: [(spec.Flatten(), (2, 4, 3))],
    spec.Dense: [(spec.Dense(4, 4), (3, 4)), (spec.Dense(5, 3, bias=False), (2, 5))],
}
"""The layers of each type, the plainest first, and the shapes of their inputs.

Sizes differ along all axes, but where a mistake would be refused before it gives an answer.
"""


def _cases(kind: type[spec.Layer]) -> Sequence[tuple[spec.Layer, spec.Shape]]:
    """Return the layers of a type; of any pooling, with and without its options."""
    if kind in CASES:
        return CASES[kind]
    if issubclass(kind, spec.Windowed):
        padded = kind((3, 3), (2, 2), ((1, 1), (1, 1)))
        return [(kind((2, 3), (1, 2)), (2, 5, 6, 3)), (padded, (2, 5, 6, 3))]
    return [(kind(), (2, 4, 5, 3))]


def case_of(layer: spec.Layer, shape: spec.Shape, dtype: str) -> Given:
    """Return a case of distinct whole numbers, none of them 0, that every dtype holds."""
    rng = np.random.default_rng(0)
    count = math.prod(shape)
    positive = isinstance(layer, spec.StochasticPool) or dtype.startswith("u")
    values = np.arange(1, count + 1)
    if not positive:
        values -= count // 2 + (values <= count // 2)
    x = rng.permutation(values).reshape(shape).astype(dtype_named(dtype))
    held = spec.weight_shapes(layer)
    weights = {n: (rng.integers(1, 9, s) * rng.choice([-1, 1], s)) for n, s in held.items()}
    return given(layer, x, **{n: w.astype(dtype_named(dtype)) for n, w in weights.items()})


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: of which layer and method, what, and what to do about it."""

    layer: str
    method: str
    said: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return it as a paragraph."""
        head = ", ".join(filter(None, [self.layer, self.method]))
        text = f"{head}: {' '.join(printable(self.said).split())}"
        text = text if len(text) < 600 else f"{text[:600]} ..."
        wrapped = textwrap.fill(text, 98, subsequent_indent="    ")
        remedy = textwrap.fill(f"-> {self.remedy}", 98, initial_indent="    ",
                               subsequent_indent="       ")  # fmt: skip
        return f"{wrapped}\n{remedy}" if self.remedy else wrapped


def _joined(problems: Sequence[Problem]) -> Iterator[Problem]:
    """Yield each problem once, with all the layers that have it."""
    found: dict[Problem, dict[str, None]] = {}
    for problem in problems:
        found.setdefault(replace(problem, layer=""), {})[problem.layer] = None
    for problem, layers in found.items():
        yield replace(problem, layer=", ".join(filter(None, layers)))


@dataclass
class Trial:
    """What came of an adapter.

    ``contract`` are breaches of it, ``wrong`` answers that are not right, ``hints`` neither.
    ``cells`` has a word for each layer and column; ``faults`` are those that were put, and
    ``hidden`` those of them that the adapter did not pass on.
    """

    name: str
    version: str = ""
    contract: list[Problem] = field(default_factory=list)
    wrong: list[Problem] = field(default_factory=list)
    hints: list[Problem] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    cells: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: int = 0
    hidden: list[Problem] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong, and the adapter was seen to pass faults on."""
        return not (self.contract or self.wrong or self.hidden) and self.faults > 0

    def text(self) -> str:
        """Return the report: what breaks the contract first."""
        parts = [f"{self.name} {self.version}".rstrip()]
        titles = [
            ("Breaks the contract", self.contract),
            ("Hides faults: what the framework gets wrong, this adapter would mend", self.hidden),
            ("Wrong answers", self.wrong),
            ("Worth a look", self.hints),
        ]
        for title, problems in titles:
            if problems:
                joined = map(str, _joined(problems))
                listed = [f"{number}. {text}" for number, text in enumerate(joined, start=1)]
                parts.append("\n".join([title, "", *listed]))
        if self.cells:
            parts.append(self._table())
        if self.reasons:
            lines = [
                f"  {reason}: {', '.join(dict.fromkeys(of))}" for reason, of in self.reasons.items()
            ]
            parts.append("\n".join(["Not offered", "", *lines]))
        parts.append(self._verdict())
        return "\n\n".join(parts) + "\n"

    def _table(self) -> str:
        """Return a row for each layer that was answered at all, without columns of none."""
        rows = [row for row in self.cells.values() if set(row.values()) != {"no"}]
        columns = [c for c in _COLUMNS if {row.get(c, "no") for row in rows} != {"no"}]
        lines = [
            [name, *(row.get(column, "") for column in columns)]
            for name, row in self.cells.items()
            if row in rows
        ]
        return tabulate(lines, ["layer", *columns], disable_numparse=True)

    def _verdict(self) -> str:
        passed = self.faults - len(self.hidden)
        told = f"{passed} of {self.faults} faults that were put behind it were told"
        if not self.faults:
            told = "nothing shows that it can fail: no layer gave a right answer"
        return f"{'Fine' if self.fine else 'Not fine'}: {told}."


def attempt(name: str) -> Trial:
    """Try the adapter of this subject.

    Raises:
        SubjectError: the name means nothing.
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
        for kind in spec.TYPES.values():
            _Layer(trial, subject, kind).ask()
        _Whole(trial, subject).ask()
    finally:
        subject.close()
    return trial


def _forbidden(target: registry.Target) -> Iterator[Problem]:
    place = target.path.rpartition(":")[0]
    found = None if place.endswith(".py") else util.find_spec(place)
    file = Path(place) if place.endswith(".py") else Path((found and found.origin) or "")
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names):
                imported = [f"{module}.{alias.name}" for alias in names]
            case _:
                continue
        for each in imported:
            if each.startswith(_OURS):
                said = f"it imports {each}, with which its answers are compared"
                yield Problem("", "import", said, "answer with the framework's own layers alone")


@dataclass
class _Layer:
    """The trial of one layer type."""

    trial: Trial
    subject: Subject
    kind: type[spec.Layer]
    right: dict[str, Given] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.kind.__name__

    def ask(self) -> None:
        self.cells = self.trial.cells.setdefault(self.name, {})
        (layer, shape), *others = _cases(self.kind)
        for dtype in dtypes(self.kind):
            self._once(case_of(layer, shape, dtype), dtype, dtype)
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
        """Return what a request returns; note what else became of it."""
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
        mistake = traps.explained(case, y, self.subject.info.layout)  # type: ignore[arg-type] # checked at the hello
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
                self._broken("output_shape", said, traps.shape_explained(layer, shape, stated))
        held = [layer, *(other for other, _ in _cases(self.kind)[1:])] if layer.has_weights else []
        for each in held or [layer]:
            count = self._put(partial(self.subject.parameters, [each]), "count", "parameters")
            if count is not None:
                right_count = parameter_count(each)
                self._note("count", "ok" if count == right_count else "WRONG")
                if count != right_count:
                    said = f"{count} for {each}, which has {right_count}"
                    self._broken("parameters", said, traps.count_explained(each, count))
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
            mistake = traps.gradient_explained(case, upstream, found.arrays)
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
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            self._note("script", "BROKEN")
            self._broken("script", f"it is no Python: {error}")
            return
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        self._note("script", "ok" if "y" in names else "BROKEN")
        if "y" not in names:
            self._broken("script", "it sets no y", "set y to a NumPy array")

    def _faults(self, case: Given) -> None:
        """Put faults on the framework's result. The adapter hides what is then still right."""
        try:
            y = self.subject.run([case.layer], [case.weights], case.x).y
        except (Unsupported, Refused, Crashed, AdapterBroke, Stopped):
            return
        others = [d for d in self.right if d != case.x.dtype.name and dtype_named(d).kind == "f"]
        names = [n for n, fault in FAULTS.items() if not np.array_equal(fault(y), y)]
        if case.x.dtype.kind in "iu":
            names = []
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


def _remedy(said: str) -> str:
    """Return what to do about a breach that the worker tells."""
    if "object" in said:
        return "return the framework's tensor, and turn it into a numpy.ndarray in to_numpy"
    if "no callable" in said:
        return "return a callable, or raise Unsupported"
    return "docs/adapters.md says what each method returns"


@dataclass
class _Whole:
    """The trial of what is not of one layer: dtypes, the seed, layers of any size."""

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

    def _sizes(self) -> None:
        """Ask of layers that are too large to allocate. An adapter may have to: a hint."""
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
