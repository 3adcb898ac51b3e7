"""Whole models: the document's pipeline, trained on digits, and chains of layers.

A model runs natively in one request. ``models.native`` says what that takes of the weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import digits, judge, models
from cnnformance.conformance.cases_by_option import with_rank
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import by_layer_type
from cnnformance.conformance.per_type import PerType
from cnnformance.conformance.question import Question
from cnnformance.conformance.small_layers import one_window
from cnnformance.reference import bounds, model_shapes
from cnnformance.spec import layers as spec

Model = tuple[spec.Layer, ...]

CLAUSES = ("pipeline.order", "dense.activation", "dense.needs-vector")
"""The clauses on how layers are joined."""


def pipeline(window: spec.Shape, channels: int, features: int) -> Model:
    """Return the document's chain: image to output, the layers in its order."""
    rank = len(window)
    middle, last = channels + 1, channels + 2
    return (
        spec.Conv(window, in_channels=channels, out_channels=middle),
        spec.ReLU(),
        spec.MaxPool((2,) * rank),
        spec.Conv((2,) * rank, in_channels=middle, out_channels=last),
        spec.MaxPool((2,) * rank, stride=(1,) * rank),
        spec.Flatten(),
        spec.Dense(features, 5),
        spec.ReLU(),
        spec.Dense(5, 3),
    )


# Every map keeps several cells and channels, unequal on each axis, up to where it is flattened:
# otherwise the order in which Flatten joins them would not show.
CHAINS: dict[str, tuple[Model, spec.Shape]] = {
    "document-1d": (pipeline((3,), 2, 4 * 4), (3, 14, 2)),
    "document-2d": (pipeline((3, 2), 1, 3 * 2 * 3), (2, 12, 9, 1)),
    "document-3d": (pipeline((2, 2, 2), 1, 2 * 1 * 3 * 3), (2, 9, 7, 11, 1)),
    "average": (
        (
            spec.Conv((2, 3), padding="same", in_channels=3, out_channels=4, groups=1),
            spec.ReLU(),
            spec.AveragePool((2, 2)),
            spec.Flatten(),
            spec.ReLU(),
            spec.Dense(3 * 2 * 4, 4),
        ),
        (3, 6, 5, 3),
    ),
    "global": (
        (
            spec.Conv((3, 3), stride=(2, 1), in_channels=2, out_channels=6, bias=False),
            spec.MaxPool((2, 2), stride=(1, 1)),
            spec.GlobalAveragePool(),
            spec.Dense(6, 4),
        ),
        (2, 9, 7, 2),
    ),
    "pool-flatten-dense": (
        (spec.MaxPool((2, 2)), spec.Flatten(), spec.Dense(3 * 2 * 5, 4)),
        (4, 6, 4, 5),
    ),
    "pool-flatten": ((spec.AveragePool((2, 1)), spec.Flatten()), (2, 6, 3, 4)),
    "flatten-dense": ((spec.Flatten(), spec.Dense(3 * 4 * 2, 5)), (3, 3, 4, 2)),
    "dense-relu": ((spec.Dense(7, 5), spec.ReLU()), (6, 7)),
    "dense-relu-dense": ((spec.Dense(7, 9), spec.ReLU(), spec.Dense(9, 2, bias=False)), (4, 7)),
}


def _asked() -> Iterator[Any]:
    for name, (layers, shape) in CHAINS.items():
        for values in ("integer", "normal"):
            marks = pytest.mark.clauses(*CLAUSES)
            yield pytest.param(layers, shape, values, marks=marks, id=f"{name}-{values}")


@pytest.mark.parametrize(("layers", "shape", "values"), list(_asked()))
def test_chain(ask: Question, layers: Model, shape: spec.Shape, values: str) -> None:
    """The chain gives what its steps give in turn, and both what the formulas give."""
    rng = np.random.default_rng([ask.seed, len(layers)])
    weights = models.drawn_weights(rng, layers, integer=values == "integer")
    drawn = rng.integers(-8, 9, shape) if values == "integer" else rng.standard_normal(shape)
    x = drawn.astype(np.float32)
    _chained(ask, layers, weights, x)


def _chained(ask: Question, layers: Model, weights: Sequence[Weights], x: Array) -> bounds.Bound:
    """Judge a model run whole, and step by step, and the two against each other."""
    try:
        models.run(ask, layers, weights, x[:1])  # a plan for one sample is not one for more
        whole = models.run(ask, layers, weights, x)
        allowed = models.judged(ask, layers, weights, x, whole)
        ask.examples += 1
        *_, stepped = models.steps(ask, layers, weights, x)
        apart = bounds.Bound(stepped.astype(np.float64), 2 * allowed.error, allowed.judged)
        judge.within(whole, apart, x.dtype)
    except Failure as failure:
        raise _blamed(ask, failure, layers, weights, x) from None
    return allowed


def _blamed(
    ask: Question, failure: Failure, layers: Model, weights: Sequence[Weights], x: Array
) -> Failure:
    """Return the failure of the first layer that fails alone, or that of the model.

    Each layer is asked on what those before it gave: what one of them does wrong is no fault of
    the joint, nor of the layers that follow.
    """
    models.show(failure, layers, weights, x)
    try:
        for _ in models.steps(ask, layers, weights, x):
            pass
    except Failure as own:
        return own
    return failure


@PerType
def seconds(layer_type: type[Any], spatial: spec.Shape, count: int) -> tuple[spec.Layer, ...]:
    """Return layers of a type for the maps, or the features, that a first one returned."""
    del count
    return (one_window(layer_type, spatial),)


@seconds.register(spec.Adaptive)
def _adaptive(
    layer_type: type[spec.Adaptive], spatial: spec.Shape, count: int
) -> tuple[spec.Layer, ...]:
    del spatial, count
    return (layer_type(output=(2, 3)),)


@seconds.register(spec.Dense)
def _dense(layer_type: type[spec.Dense], spatial: spec.Shape, count: int) -> tuple[spec.Layer, ...]:
    del spatial
    return layer_type(count, 3), layer_type(count, count)


_PADDED: dict[str, Any] = {"window": (3, 2), "stride": (2, 1), "padding": ((1, 1), (1, 0))}
_BORDERED: dict[str, Any] = {"window": (3, 3), "padding": ((1, 1), (1, 1))}


@seconds.register(spec.Conv)
def _conv(layer_type: type[spec.Conv], spatial: spec.Shape, count: int) -> tuple[spec.Layer, ...]:
    del spatial
    joined: dict[str, Any] = {"in_channels": count, "out_channels": 3}
    each = {**joined, "out_channels": count, "groups": count}
    dilated = layer_type((3, 2), padding=((2, 2), (1, 1)), dilation=(2, 2), **joined)
    return (
        layer_type((1, 2), **joined),
        layer_type(**_PADDED, **joined),
        dilated,
        layer_type(**_BORDERED, **each),
    )


@seconds.register(spec.Pool)
def _pool(layer_type: type[spec.Pool], spatial: spec.Shape, count: int) -> tuple[spec.Layer, ...]:
    del spatial, count
    plain = layer_type(window=(2, 1)), layer_type(window=(2, 2), stride=(1, 1))
    counts = "count_include_pad" in layer_type.__dataclass_fields__
    counted: dict[str, Any] = {"count_include_pad": True} if counts else {}
    ceiled = layer_type((3, 2), stride=(2, 3), ceil_mode=True)
    evenly = layer_type((2, 2), stride=(1, 1), padding="same")
    padded = layer_type(**_PADDED), layer_type(**_BORDERED, **counted)
    dilated = layer_type((2, 2), stride=(1, 1), dilation=(2, 2))
    return *plain, *padded, evenly, ceiled, dilated


FIRST: tuple[Model, ...] = (
    (spec.Conv((2, 2), in_channels=2, out_channels=4),),
    (spec.Conv((3, 1), stride=(1, 2), padding="same", in_channels=2, out_channels=3, bias=False),),
    (spec.Conv((2, 2), in_channels=2, out_channels=4, groups=2),),
    (spec.Conv((1, 1), in_channels=2, out_channels=3),),
    (spec.Conv((1, 1), in_channels=2, out_channels=3), spec.ReLU()),
    (spec.MaxPool((2, 1)),),
    (spec.MaxPool((3, 2), stride=(2, 1)),),
    (spec.MaxPool((2, 2), stride=(1, 1), padding="same"),),
    (spec.AveragePool((1, 2)),),
    (spec.AveragePool((3, 2), stride=(2, 1)),),
    (spec.MinPool((1, 2), stride=(1, 1)),),
    (spec.LpPool((2, 1)),),
    (spec.AdaptiveMaxPool((5, 4)),),
    (spec.AdaptiveAveragePool((5, 4)),),
    (spec.GlobalAveragePool(),),
    (spec.GlobalMaxPool(),),
    (spec.ReLU(),),
    (spec.Flatten(),),
    (spec.Dense(2, 5),),
)
"""Layers that another may follow, for maps of 8 by 6 cells and 2 channels."""

JOINED: tuple[tuple[Model, spec.Shape, int], ...] = (
    *((first, (2, 2) if isinstance(first[0], spec.Dense) else (2, 8, 6, 2), 2) for first in FIRST),
    *(
        (tuple(with_rank(layer, rank) for layer in FIRST[place]), shape, rank)
        for rank, shape in ((1, (2, 9, 2)), (3, (2, 5, 6, 5, 2)))
        for place in (0, 2, 7, 16)
    ),
)
"""The same and their input, and some that keep most of a line or a space."""


@by_layer_type({layer_type: ["pipeline.order"] for layer_type in spec.family("not drawn")})
def test_after_each_layer(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A layer reads what the layer before it returned, whichever layer that is."""
    rng = np.random.default_rng(ask.seed)
    others = ("float64", "float16", "bfloat16")
    turns = itertools.cycle(others)
    for first, shape, rank in JOINED:
        (_, *spatial, channels) = model_shapes(first, shape)[-1]
        if not spatial and not (layer_type.elementwise or issubclass(layer_type, spec.Dense)):
            continue
        if spatial and issubclass(layer_type, spec.Dense):
            continue
        for planar in ask.part(seconds(layer_type, tuple(spatial), channels)):
            layers = (*first, planar if rank == 2 else with_rank(planar, rank))
            weights = models.drawn_weights(rng, layers, integer=True)
            x = rng.integers(-8, 9, shape)
            also = (next(turns),) if ask.profile.name == "quick" else others
            for form in map(dtype_named, ("float32", *also)):
                held = [{name: w.astype(form) for name, w in each.items()} for each in weights]
                _joined(ask, layers, held, x.astype(form))


def _joined(ask: Question, layers: Model, weights: Sequence[Weights], x: Array) -> None:
    """Judge a model, after a call on one sample alone; what is unsupported or known passes."""
    try:
        for some in (x[:1], x):
            y = models.run(ask, layers, weights, some)
            models.judged(ask, layers, weights, some, y)
    except Unsupported as reason:
        ask.declined = str(reason)
    except Failure as failure:
        blamed = _blamed(ask, failure, layers, weights, x)
        if not (ask.divergence(blamed) or ask.divergence(failure)):
            raise blamed from None
    else:
        ask.examples += 1


@pytest.mark.clauses("flatten.layout-open", "dense.needs-vector")
def test_flatten_order(ask: Question) -> None:
    """The order in which a map is flattened is a trait, and follows from the backend's layout."""
    found = {}
    for spatial in ((3,), (2, 4), (2, 3, 2)):
        layers = (spec.MaxPool((1,) * len(spatial)), spec.Flatten())
        features = np.arange(np.prod(spatial) * 5, dtype=np.float32)
        x = features.reshape(1, *spatial, 5)
        y = ask.run(layers, x)
        judge.same_form(y, (1, features.size), x.dtype)
        orders = {
            "spatial axes, then channels": models.flatten_order(spatial, 5, "channels_last"),
            "channels, then spatial axes": models.flatten_order(spatial, 5, "channels_first"),
        }
        value = next((name for name, order in orders.items() if (y[0] == order).all()), "another")
        found[value] = spatial
        ask.examples += 1
        layout = ask.subject.info.layout
        if value != list(orders)[layout == "channels_first"]:
            raise Failure(
                "law",
                f"a map of {spatial} cells and 5 channels is flattened in the order {value}, "
                f"and the backend's layout is {layout}",
                expected=list(orders)[layout == "channels_first"],
                actual=value,
                arrays={"x": x},
                layers=layers,
            )
    (order,) = found
    ask.trait("flatten order", order, "MaxPool, then Flatten", "ranks 1 to 3")


DIGITS = ("pipeline.order", "dense.needs-vector")


@pytest.mark.clauses(*DIGITS)
def test_digits(ask: Question) -> None:
    """All images at once: the logits lie within the bound, the decided digits are the same.

    A digit is decided where the margin of the largest logit exceeds the bounds of the two. With
    float32 all 200 are; a trait says how many, and how many of the subject's answers are right.
    """
    net = digits.load()
    logits = models.run(ask, net.layers, net.weights, net.images)
    try:
        allowed = models.judged(ask, net.layers, net.weights, net.images, logits)
        _same_digits(logits, allowed)
    except Failure as failure:
        raise _blamed(ask, failure, net.layers, net.weights, net.images) from None
    ask.examples += len(net.images)
    decided = int(_decided(allowed).sum())
    right = int((logits.argmax(-1) == net.labels).sum())
    value = f"{right} of {len(net.labels)} right, {decided} decided by the bound"
    ask.trait("digits", value, "the trained network, all images in one call", "labels of the data")


@pytest.mark.clauses(*DIGITS)
def test_digits_one_by_one(ask: Question) -> None:
    """Each image by itself gives the same digit, within the same bound."""
    net = digits.load()
    images = net.images[: 4 * ask.profile.examples]
    logits = [models.run(ask, net.layers, net.weights, image[None]) for image in images]
    for image, own in zip(images, logits, strict=True):
        try:
            judge.same_form(own, (1, 10), image.dtype)
        except Failure as failure:
            raise _blamed(ask, failure, net.layers, net.weights, image[None]) from None
    joined = np.concatenate(logits)
    try:
        _same_digits(joined, models.judged(ask, net.layers, net.weights, images, joined))
    except Failure as failure:
        first = failure.index[0] if failure.index else 0
        raise _blamed(ask, failure, net.layers, net.weights, images[first : first + 1]) from None
    ask.examples += len(images)


@pytest.mark.clauses(*DIGITS)
def test_digits_step_by_step(ask: Question) -> None:
    """Layer by layer, each judged on what the one before gave, the network gives the same."""
    net = digits.load()
    _chained(ask, net.layers, net.weights, net.images)


def _decided(allowed: bounds.Bound) -> Array:
    """Return which images no error within the bound can classify otherwise."""
    best = allowed.value.argmax(-1)[:, None]
    lowest = np.take_along_axis(allowed.value - allowed.error, best, -1)
    highest = allowed.value + allowed.error
    np.put_along_axis(highest, best, -np.inf, -1)
    return np.asarray((lowest > highest).all(-1))


def _same_digits(logits: Array, allowed: bounds.Bound) -> None:
    said, holds = logits.argmax(-1), allowed.value.argmax(-1)
    wrong = _decided(allowed) & (said != holds)
    if wrong.any():
        first = int(wrong.argmax())
        raise Failure(
            "value",
            f"image {first} is taken for a {said[first]}, and is a {holds[first]} whatever the "
            f"rounding; {int(wrong.sum())} of {len(said)} images are taken for another digit",
            index=(first,),
            expected=str(holds[first]),
            actual=str(said[first]),
        )
