"""``check``: one function, put to all questions about its layer, from any program."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pytest

import cnnformance
from cnnformance.adapters import function as functions
from cnnformance.adapters.backend import Array, Layout
from cnnformance.adapters.worker import Server, serve
from cnnformance.reports import arrays, matrix, records, render, tables
from cnnformance.reports.printable import cleaned
from cnnformance.spec.layers import Layer, from_json

Profile = Literal["quick", "default", "thorough"]

_IMPORTING = "CNNFORMANCE_IMPORTING"
"""Set where a function is imported to be checked in isolation."""
_WAIT = 30.0
"""The longest wait, in seconds, for a process that has asked all to end."""


@dataclass(frozen=True)
class Counterexample:
    """A finding, as the smallest case that was found shows it.

    ``layer``, ``x`` and ``weights`` (canonical) are the case; ``x`` is None where none was needed.
    At ``index`` the output was ``actual``, should be ``expected``, and ``bound`` is the proven
    allowance where it is not exact. ``clauses`` are what the question checks, of which at least one
    does not hold; ``more`` other questions found the same.
    """

    effect: str
    message: str
    layer: Layer | None
    x: Array | None
    weights: Mapping[str, Array]
    index: tuple[int, ...] | None
    expected: str
    actual: str
    bound: str
    clauses: tuple[str, ...]
    script: str
    question: str
    where: tuple[str, ...]
    more: int
    verdict: records.Verdict

    @property
    def clause(self) -> str:
        """The first clause: its id, where it stands, and what it says."""
        return tables.clause(self.clauses[0]) if self.clauses else ""

    def __str__(self) -> str:
        """Return all of it but the script, a line or a block for each part."""
        where = f" where {' and '.join(self.where)}" if self.where else ""
        lines = [f"{self.verdict.layer}, {self.effect}{where}: {self.message}"]
        skipped = {"message", "script", "case"}
        details = (d for d in tables.details(self.verdict) if d.label not in skipped)
        for detail in details:
            text = detail.text.replace("\n", f"\n{'':14}")
            lines.append(f"    {detail.label:<10}{text}")
        if self.more:
            lines.append(f"    {'likewise':<10}{self.more} more questions")
        return "\n".join(lines)


@dataclass(frozen=True)
class Result:
    """What became of a function: every verdict, and the findings among them.

    ``layers`` are the types that it was asked for.
    """

    name: str
    layers: tuple[type[Layer], ...]
    run: records.Run

    @cached_property
    def failures(self) -> tuple[Counterexample, ...]:
        """The findings, the worst first, each with its smallest counterexample."""
        return tuple(map(_counterexample, matrix.findings(cleaned(self.run))))

    @cached_property
    def unasked(self) -> Mapping[str, str]:
        """The layer types of which no question was answered, and why: they were not checked."""
        answered = {v.layer for v in self.run.verdicts if v.verdict in ("pass", *records.FAILING)}
        reasons = {v.layer: v.message for v in reversed(self.run.verdicts)}
        names = (kind.__name__ for kind in self.layers)
        return {n: reasons.get(n) or "nothing was asked" for n in names if n not in answered}

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and each layer type was asked something."""
        return not self.failures and not self.unasked

    def raise_for_failures(self) -> None:
        """Do nothing if all passed.

        Raises:
            AssertionError: it holds the smallest counterexample of each finding, and the layer
                types that were not checked at all.
        """
        if not self.passed:
            raise AssertionError("\n\n".join([self._headline, *self._told()]))

    def table(self) -> str:
        """Return the verdicts by layer, as text."""
        return render.terminal_table(tables.layers(cleaned(self.run)))

    @property
    def _headline(self) -> str:
        examples = sum(v.examples for v in self.run.verdicts)
        asked = sum(bool(v.examples) for v in self.run.verdicts)
        found = f"{len(self.failures)} finding{'s' * (len(self.failures) != 1)}"
        if self.unasked:
            found += f", and {len(self.unasked)} of {len(self.layers)} layer types not checked"
        header = self.run.header
        return (
            f"{self.name}: {'passed' if self.passed else found} ({asked} questions, "
            f"{examples:,} cases; profile {header.profile}, seed {header.seed})"
        )

    def _told(self) -> Iterator[str]:
        for name, reason in self.unasked.items():
            yield f"{name}: not checked, for it declined all that was asked: {reason}"
        yield from map(str, self.failures)

    def __str__(self) -> str:
        """Return the verdict, the table and the findings."""
        return "\n\n".join([self._headline, self.table().rstrip(), *self._told()])

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        table = tables.layers(cleaned(self.run))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
        rows = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell.text)}</td>' for cell in row)}</tr>"
            for row in table.rows
        )
        told = "".join(f"<pre>{html.escape(text)}</pre>" for text in self._told())
        return f"<p>{html.escape(self._headline)}</p><table><tr>{head}</tr>{rows}</table>{told}"


def _counterexample(finding: matrix.Finding) -> Counterexample:
    first = finding.ordered[0]
    failure = first.failure or records.Failure("adapter")
    held = {name: arrays.unpack(array) for name, array in failure.arrays.items()}
    described = [layer for layer in (failure.case or {}).get("layers", ()) if "type" in layer]
    return Counterexample(
        effect=finding.effect,
        message=tables.happened(first),
        layer=from_json(described[0], checked=False) if described else None,
        x=held.get("x"),
        weights={name: array for name, array in held.items() if name in ("weight", "bias")},
        index=failure.index,
        expected=failure.expected,
        actual=failure.actual,
        bound=failure.bound or "",
        clauses=first.clauses,
        # its head names the subject as the process that asked did
        script=re.sub(r"\A# \S+ \S+: ", f"# {finding.subject}: ", failure.script or ""),
        question=first.question,
        where=finding.where,
        more=len(finding.questions) - 1,
        verdict=first,
    )


def check(
    function: Callable[..., Any],
    layers: functions.Kinds = None,
    *,
    profile: Profile = "quick",
    seed: int = 0,
    dtypes: Sequence[str] | None = None,
    layout: Layout | None = None,
    isolated: bool = False,
) -> Result:
    """Put a function to the questions about its layer, and return what became of each.

    ``function(x, layer)`` returns the output; ``function(x, layer, weights)`` has the arrays of
    ``spec.layers.weight_shapes(layer)`` too. Arrays are channels-last unless ``layout`` says
    otherwise, and of one of ``dtypes`` (float32 and float64). What it has not, it declines by
    raising ``NotImplementedError``.

    Args:
        function: what is asked.
        layers: a layer type, a union or a sequence of some, or a base such as ``Pool``; by default
            what the annotation of the second parameter names.
        profile: how much is asked.
        seed: of the drawn cases.
        dtypes: those that the function takes, by NumPy name or ``bfloat16``.
        layout: how it wants its arrays.
        isolated: call it in a process of its own, so that a crash or a hang is a finding. It must
            stand at the top of a module or file. Otherwise it is called in this very thread.

    Raises:
        ValueError: an option or the function is none that can be used; the message says why.
        RuntimeError: the questions could not be put.
    """
    if _IMPORTING in os.environ:
        said = "check is called while it imports the function: write it below if __name__ == ..."
        raise RuntimeError(said)
    backend = functions.of(function, layers, dtypes=dtypes, layout=layout)
    try:
        Server(backend()).describe()
    except Exception as error:  # AdapterError: of a class attribute, which is an option here
        raise ValueError(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="cnnformance-") as folder:
        arguments = ["--profile", str(profile), "--seed", str(seed)]
        if isolated:
            run = _asked_elsewhere(backend, Path(folder), arguments)
        else:
            run = _asked_here(backend, Path(folder), arguments)
    named = tuple(records.Subject(backend.__name__, s.version) for s in run.header.subjects)
    run = replace(
        run,
        header=replace(run.header, subjects=named),
        verdicts=tuple(replace(v, subject=backend.__name__) for v in run.verdicts),
        traits=tuple(replace(t, subject=backend.__name__) for t in run.traits),
    )
    return Result(backend.__name__, backend.kinds, run)


def _asked_here(
    backend: type[functions.Function], folder: Path, arguments: Sequence[str]
) -> records.Run:
    """Serve the backend in this thread to a process that asks."""
    ours, theirs = socket.socketpair()
    arguments = [*arguments, "--backend", f"cnnformance.check:{backend.__name__}"]
    arguments += ["--link", str(theirs.fileno())]
    with _questioner(backend, folder, arguments, [theirs.fileno()]):
        theirs.close()
        with contextlib.closing(ours), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a worker process has no filter that makes errors
            with contextlib.suppress(ConnectionError):  # it is gone; what it said is told
                serve(ours, backend)
    return _read(folder)


def _asked_elsewhere(
    backend: type[functions.Function], folder: Path, arguments: Sequence[str]
) -> records.Run:
    """Have a worker import the function, by an adapter that is written for it."""
    function = backend.function
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    holder = sys.modules.get(module)
    file = getattr(holder, "__file__", None)
    found = getattr(holder, name, None)
    if function not in (found, getattr(found, "function", None)) or file is None:
        said = f"isolated: {name or function!r} cannot be imported elsewhere"
        raise ValueError(f"{said}; a function at the top of a file or module can")
    lines = ["from cnnformance.adapters import function", "from cnnformance.spec import layers"]
    if module in ("__main__", "__mp_main__"):
        lines += [
            "import runpy",
            f"found = runpy.run_path({str(Path(file).resolve())!r})[{name!r}]",
        ]
    else:
        lines += [f"from {module} import {name} as found"]
    kinds = "".join(f"layers.{kind.__name__}, " for kind in backend.kinds)
    options = f"dtypes={backend.dtypes!r}, layout={backend.layout!r}"
    lines += ["found = getattr(found, 'function', found)"]  # of a test that was made of it
    lines += [f"Checked = function.of(found, ({kinds}), {options})"]
    adapter = folder / "checked.py"
    adapter.write_text("\n".join(lines), encoding="utf-8")
    arguments = [*arguments, "--backend", f"{adapter}:Checked"]
    with _questioner(backend, folder, arguments, path=sys.path):
        pass
    return _read(folder)


@contextlib.contextmanager
def _questioner(
    backend: type[functions.Function],
    folder: Path,
    arguments: Sequence[str],
    descriptors: Collection[int] = (),
    path: Sequence[str] = (),
) -> Iterator[None]:
    """Start the process that asks, and wait for its end on leaving; it is ended on an exception."""
    questions = next(p for p in _places() if p.is_dir())
    options = {
        "layers": [kind.__name__ for kind in backend.kinds],
        "dtypes": backend.dtypes,
        "arguments": [
            str(questions), "-c", os.devnull, "--rootdir", str(questions.parent), *arguments,
            "-p", "cnnformance.pytest_plugin", "-p", "no:cacheprovider", "-q", "--tb=no",
            "--record", str(folder / records.FILE),
        ],
    }  # fmt: skip
    package = str(Path(cnnformance.__file__).resolve().parents[1])
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("PYTEST", "PYTHONWARN"))}
    searched = [package, *(path or [os.environ.get("PYTHONPATH", "")])]
    environment = {
        **inherited,
        **({} if descriptors else {_IMPORTING: "1"}),
        "PYTHONPATH": os.pathsep.join(filter(None, searched)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            [sys.executable, "-P", "-m", "cnnformance.questioner", json.dumps(options)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            pass_fds=list(descriptors),
        )
    try:
        yield
        process.wait(_WAIT if descriptors else None)
    finally:
        process.kill()
        process.wait()


def _places() -> Iterator[Path]:
    return (Path(place) / "conformance" for place in cnnformance.__path__)


def _read(folder: Path) -> records.Run:
    """Return what was recorded.

    Raises:
        ValueError: an option is wrong.
        RuntimeError: not all was recorded.
    """
    said = (folder / "said").read_text(encoding="utf-8", errors="replace").strip()
    try:
        run = records.read(folder / records.FILE)
    except records.RecordError:
        run = None
    if run is None or run.partial:
        if wrong := re.search(r"(?m)^\S+: error: (.*)$", said):
            raise ValueError(wrong[1])
        raise RuntimeError(f"the questions could not be put: {said[-2000:]}")
    return run


def conformance_test(
    layers: functions.Kinds = None, **options: Any
) -> Callable[[Callable[..., Any]], Callable[[], None]]:
    """Make a test of a function, for a suite of one's own: it passes if ``check`` finds nothing.

    ::

        @conformance_test(MaxPool)
        def test_max_pool(x, layer):
            if layer != MaxPool(layer.window, layer.stride):
                raise NotImplementedError("padding, dilation and ceil_mode")
            return my_max_pool(x, layer.window, layer.stride)

    ``layers`` and ``options`` are those of ``check``. The function itself is the test's
    ``function``.
    """

    def made(function: Callable[..., Any]) -> Callable[[], None]:
        def test() -> None:
            said = ""
            try:
                check(function, layers, **options).raise_for_failures()
            except AssertionError as error:
                said = str(error)
            if said:  # which says all: our own lines, and a second telling, would say nothing
                pytest.fail(said, pytrace=False)

        for name in ("__name__", "__qualname__", "__module__", "__doc__"):  # not its parameters
            setattr(test, name, getattr(function, name))
        test.function = function  # type: ignore[attr-defined] # as told
        return test

    return made
