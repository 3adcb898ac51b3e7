"""Models of several layers: how they are run and judged.

A model runs in one request, natively: the framework's own layout from the first layer to the last.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from cnnformance.adapters.backend import Array, Layout, Unsupported, Weights
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.cases import given
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.question import Question
from cnnformance.reference import bounds, fast_algorithms, forward, model_shapes, propagated, terms
from cnnformance.spec import layers as spec


def drawn_weights(
    rng: np.random.Generator, layers: spec.Model, *, integer: bool = False
) -> list[dict[str, Array]]:
    """Draw float32 weights for a model: integers from -2 to 2, or normal numbers.

    Normal weights are scaled so that values neither grow nor vanish from layer to layer.
    """

    def draw(shape: spec.Shape, layer: spec.Layer) -> Array:
        if integer:
            return rng.integers(-2, 3, shape).astype(np.float32)
        fan_in = terms(layer, ())
        return (rng.standard_normal(shape) / math.sqrt(fan_in)).astype(np.float32)

    return [
        {name: draw(shape, layer) for name, shape in spec.weight_shapes(layer).items()}
        for layer in layers
    ]


def flatten_order(spatial: spec.Shape, channels: int, layout: Layout) -> Array:
    """Return for each native feature of a flattened map the canonical one.

    Canonical features run over the spatial axes, then the channels, the last fastest. A backend
    that holds its channels first flattens to channels, then spatial axes.
    """
    features = np.arange(math.prod(spatial) * channels).reshape(*spatial, channels)
    if layout == "channels_first":
        features = np.moveaxis(features, -1, 0)
    return features.ravel()


def native(
    layers: spec.Model, weights: Sequence[Weights], shape: spec.Shape, layout: Layout
) -> tuple[list[Weights], Array | None]:
    """Return the weights with which a backend of this layout computes the canonical model.

    A dense layer that follows a Flatten reads features in the order of the backend's own layout.
    So that it meets the weights that belong to them, the columns of its weight are permuted from
    (spatial, channels) to that order; element-wise layers between the two change nothing. This
    is what anyone must do who ports such a model between layouts.

    Also returns the order of the output's features, for a model that ends before a dense layer
    has read them; None where the output is canonical.

    Raises:
        ValueError: the images are flattened from an axis other than the first.
    """
    image = spec.takes_images(layers)
    order: Array | None = None
    placed: list[Weights] = []
    inputs = [tuple(shape), *model_shapes(layers, shape)]
    for layer, held, (batch, *axes) in zip(layers, weights, inputs, strict=False):
        del batch
        if isinstance(layer, spec.Flatten) and image and len(axes) > 1:
            if layer.start != 1:
                raise ValueError(f"{layer}: a map is flattened from its first axis on")
            order = flatten_order(tuple(axes[:-1]), axes[-1], layout)
            image = False
        elif isinstance(layer, spec.Dense):
            if order is not None:
                held = {**held, "weight": np.ascontiguousarray(held["weight"][:, order])}  # noqa: PLW2901 - the same weights, in another order
            order, image = None, False
        placed.append(held)
    return placed, order


def run(ask: Question, layers: spec.Model, weights: Sequence[Weights], x: Array) -> Array:
    """Run a model natively in one request, and return its canonical output.

    Raises:
        Failure: as ``Question.run``.
        Unsupported: the subject lacks one of the layers.
    """
    layout = cast("Layout", ask.subject.start().layout)
    placed, order = native(layers, weights, x.shape, layout)
    y = ask.run(layers, x, placed)
    if order is None:
        return y
    judge.same_form(y, model_shapes(layers, x.shape)[-1], x.dtype)
    canonical = np.empty_like(y)
    canonical[:, order] = y
    return canonical


def steps(
    ask: Question, layers: spec.Model, weights: Sequence[Weights], x: Array
) -> Iterator[Array]:
    """Run a model layer by layer, each judged on the output of the one before; yield the outputs.

    In place of a layer that the subject lacks, its output is computed here.

    Raises:
        Failure: as ``Question.output``, with the layer that is wrong.
    """
    for layer, held in zip(layers, weights, strict=True):
        case = given(layer, x, **held)
        try:
            y = ask.output(case)
            ask.examples += 1
        except Unsupported as reason:
            ask.declined = str(reason)
            y = np.asarray(forward(layer, x, held)).astype(x.dtype)
        except Failure as failure:
            show(failure, [layer], [held], x)
            raise
        yield (x := y)


def bound(
    layers: spec.Model, weights: Sequence[Weights], x: Array, *, others: bool = False
) -> bounds.Bound:
    """Return what a correct model may compute (``docs/derivations.md``, section g).

    The error of each layer's input is carried through the layer, element by element, and the
    layer's own bound is added, taken where the absolute input is as large as the error lets it be.
    With ``others``, layers may be computed by the algorithms of ``reference.fast_algorithms``.

    Raises:
        TypeError: a layer has no rule: stochastic pooling.
    """
    value = np.asarray(x, dtype=np.float64)
    error = np.zeros(value.shape)
    judged = True
    for layer, held in zip(layers, weights, strict=True):
        largest = _rounded_up(np.abs(value) + error, x.dtype.name)
        own, judged_here = _own(layer, held, largest, others=others)
        value = np.asarray(forward(layer, value, held), dtype=np.float64)
        moved = propagated(layer, held, error) if error.any() else np.zeros(value.shape)
        error = moved + own
        judged = judged and judged_here
    return bounds.Bound(value, error, np.full(value.shape, judged))


def _rounded_up(values: Array, dtype: str) -> Array:
    """Return values of a format, none below those given."""
    rounded = values.astype(dtype_named(dtype))
    return np.asarray(np.where(rounded < values, np.nextafter(rounded, np.inf), rounded)).astype(
        dtype_named(dtype)
    )


def _absolute(weights: Weights) -> dict[str, Array]:
    return {name: np.abs(array) for name, array in weights.items()}


def _own(
    layer: spec.Layer, weights: Weights, x: Array, *, others: bool
) -> tuple[Array | float, bool]:
    """Bound a layer's own rounding for every input whose absolute values do not exceed ``x``."""
    if layer.exact:
        return 0.0, True
    absolute = _absolute(weights)
    found = bounds.bound(layer, x, absolute)
    # An input below its bound may be subnormal where the bound is not, and count as zero.
    heaviest = max((float(array.max(initial=0.0)) for array in absolute.values()), default=1.0)
    error = found.error + terms(layer, x.shape) * bounds.format_of(x.dtype.name).tiny * heaviest
    if others:
        error = error + fast_algorithms.normwise(layer, x, absolute)
    return error, bool(found.judged.all())


def judged(  # noqa: PLR0917 - what was asked, and what came of it
    ask: Question,
    layers: spec.Model,
    weights: Sequence[Weights],
    x: Array,
    actual: Array,
    stated: Array | None = None,
) -> bounds.Bound:
    """Require a model's output to lie within its bound; note the evidence, return the bound.

    The bound is around the exact output if that is stated, else around the reference's.

    A model may fall back on the bounds of its layers' other algorithms: a grade.
    """
    allowed = _around(bound(layers, weights, x), stated)
    grade = ""
    try:
        share = judge.within(actual, allowed, x.dtype)
    except Failure as failure:
        if failure.effect != "value":
            raise
        allowed = _around(bound(layers, weights, x, others=True), stated)
        grade = "normwise"
        judge.within(actual, allowed, x.dtype)
        share = 1.0
    ask.note(judge.Evidence(share, grade, judge.sharpness(allowed)))
    return allowed


def _around(found: bounds.Bound, stated: Array | None) -> bounds.Bound:
    return found if stated is None else dataclasses.replace(found, value=stated)


def show(failure: Failure, layers: spec.Model, weights: Sequence[Weights], x: Array) -> None:
    """Add the model and its arrays to a failure that does not name its own."""
    if len(layers) == 1:
        named = dict(weights[0])
    else:
        named = {f"{name}_{i}": w for i, held in enumerate(weights) for name, w in held.items()}
    failure.arrays = failure.arrays or {"x": x, **named}
    failure.layers = failure.layers or tuple(layers)
