"""Modes and devices of one framework make the same choices where the specification leaves any."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.exceptions import Stopped
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case, Given
from cnnformance.conformance.judge import Call, Failure, Other
from cnnformance.conformance.parametrize import law
from cnnformance.conformance.question import Question
from cnnformance.conformance.small_layers import one_window
from cnnformance.reference import output_shape
from cnnformance.spec import layers as spec


@pytest.fixture(scope="session")
def plain(subject: Subject) -> Iterator[Subject]:
    """The framework of the subject in its default mode, on the CPU."""
    target = subject.target
    name = target.framework or target.path
    usual = dataclasses.replace(target, name=name, mode="", device="cpu")
    made = Subject(usual, subject.seconds, subject.memory, subject.in_process)
    yield made
    made.close()


@dataclass(frozen=True, eq=False)
class Probe(Given):
    """A case whose answer, or whose gradient, is a choice: what shows it, and its name."""

    choice: str = ""
    backward: bool = False


def _probe(layer: spec.Layer, x: Array, choice: str, *, backward: bool = False) -> Probe:
    ones = {n: np.ones(size, np.float32) for n, size in spec.weight_shapes(layer).items()}
    arrays = {"x": x.astype(np.float32), **ones}
    return Probe(
        layer, x.shape, "float32", ("given",), arrays=arrays, choice=choice, backward=backward
    )


def _layer(layer_type: type[spec.Layer], spatial: spec.Shape) -> tuple[spec.Layer, spec.Shape]:
    """Return a layer with one window over the map, and the shape of a sample of one channel."""
    if issubclass(layer_type, spec.Dense):
        return layer_type(3, 2), (3,)
    return one_window(layer_type, spatial), (*spatial, 1)


def _probes(layer_type: type[spec.Layer]) -> Iterator[Probe]:
    """Yield what shows the choices of a layer, small enough for a mode that compiles.

    All answers are NaN, or values that no rounding touches.
    """
    for spatial in ((3,), (1, 3)):
        layer, shape = _layer(layer_type, spatial)
        spoilt = np.tile([1.0, 3.0, 2.0], (3, 1))
        spoilt[np.arange(3), np.arange(3)] = np.nan
        among, alone = spoilt.reshape(3, *shape), np.full((1, *shape), np.nan)
        selects = layer.exact
        for backward in (False, True) if selects else (False,):
            yield _probe(layer, among, "NaN among numbers", backward=backward)
            yield _probe(layer, alone, "NaN alone", backward=backward)
        if selects:
            yield _probe(layer, np.ones((1, *shape)), "equal values", backward=True)
        if selects or not layer.linear:
            yield _probe(layer, np.zeros((1, *shape)), "zeros", backward=True)


def _answer(ask: Question, subject: Subject, probe: Probe) -> str | None:
    """Return what a subject answers, as text without signs of zero; ``None``: it has none.

    Raises:
        Failure: it crashed, hung, or broke its contract.
    """
    layer, weights, x = probe.layer, probe.weights, probe.x

    def call() -> Array:
        if not probe.backward:
            return subject.run([layer], [weights], x).y
        upstream = np.ones(output_shape(layer, x.shape), x.dtype)
        return subject.gradients(layer, weights, x, upstream).arrays["input"]

    try:
        y = ask.asked(call)
    except Unsupported:
        return None
    except Failure as failure:
        if failure.effect != "exception":
            raise
        return "refused"
    values = " ".join(judge.text(value) for value in y.ravel() + y.dtype.type(0))
    return f"shape {y.shape}: {values}"


@law("modes-agree")
def test_modes_agree(ask: Question, plain: Subject, layer_type: type[spec.Layer]) -> None:
    """A mode, or a device, makes the same choices as the framework does by default."""
    hung: list[str] = []

    def question(case: Case) -> None:
        assert isinstance(case, Probe)
        if hung:
            raise Stopped(hung[0])
        own = _answer(ask, ask.subject, case)
        try:
            usual = _answer(ask, plain, case)
        except Failure as failure:  # no fault of the mode: the default's own questions show it
            said = f"{plain.name} is not there to compare with: {failure.message}"
            if failure.effect == "crash":
                raise Unsupported(said) from failure
            hung.append(said)
            raise Stopped(said) from failure
        if own is None or usual is None:
            raise Unsupported(f"{case.layer} is not in both")
        if own != usual:
            what = f"{case.choice}{', the gradient' if case.backward else ''}"
            said = f"{what}: {own}; and {usual} as {plain.name}"
            arrays = {"x": case.x, **case.weights}
            if case.backward:
                arrays["upstream"] = np.ones(output_shape(case.layer, case.x.shape), case.x.dtype)
            called: Call = "gradients" if case.backward else "forward"
            raise Failure(
                "trait",
                said,
                expected=usual,
                actual=own,
                layers=(case.layer,),
                arrays=arrays,
                call=called,
                operand="input" if case.backward else "",
                reason="modes-disagree",
                other=Other((case.layer,), arrays, called, subject=plain),
                claim="np.array_equal({result}, {other}, equal_nan=True)",
            )

    ask.sweep(_probes(layer_type), question)
