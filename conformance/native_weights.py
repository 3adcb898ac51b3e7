"""The weights of a layer, and indices into their gradients, in the order of a subject's axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from cnnformance.adapters.backend import Array
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.judge import Failure, Index
from cnnformance.conformance.literals import LISTED, laid_out, written
from cnnformance.spec import layers as spec


def in_weight(subject: Subject, operand: str, layers: Sequence[spec.Layer], index: Index) -> Index:
    """Return an index into the gradient of a weight in the subject's order of its axes."""
    if not operand or len(layers) != 1:
        return index
    return tuple(index[axis] for axis in subject.info.axes.order(layers[0], operand, len(index)))


def in_weights(subject: Subject, failure: Failure) -> Failure:
    """Return a failure whose indices into gradients of weights are in their subjects' orders."""
    operand, index, other = failure.operand, failure.index, failure.other
    if other and other.index:
        placed = in_weight(other.subject or subject, operand, other.layers, other.index)
        other = dataclasses.replace(other, index=placed)
    if index:
        index = in_weight(subject, operand, failure.layers, index)
    return dataclasses.replace(failure, index=index, other=other)


def weights(
    subject: Subject, layer: spec.Layer, arrays: Mapping[str, Array], suffix: str, memory: str
) -> list[str]:
    """Return the lines that make a layer's weights, in the subject's order of their axes."""
    lines = []
    held = [name for name in spec.weight_shapes(layer) if name + suffix in arrays]
    for name in held:
        array = arrays[name + suffix]
        native = subject.info.axes.native(layer, name, array)
        if array.size > LISTED and native.shape != array.shape:  # a line makes it as it was drawn
            order = subject.info.axes.order(layer, name, array.ndim)
            lines += [*written(name, array), f"{name} = {name}.transpose({order}).copy()"]
        else:
            lines += written(name, native)
        lines += laid_out(name, native, memory)
    entries = ", ".join(f"{name!r}: {name}" for name in held)
    return [*lines, f"weights = {{{entries}}}"] if held else []
