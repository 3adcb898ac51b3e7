"""The order in which questions are asked: those that catch many faults at little cost come first.

Catch and cost were measured on the corpus of faulty backends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

FIRST = (
    "test_paths.py::test_batch_independent",
    "test_state.py::test_pure",
    "test_examples.py::test_example",
    "test_output.py::test_output",
    "test_special_gradients.py::test_map_of_one_value",
    "test_parameters.py::test_large_count",
    "test_special_values.py::test_subnormals",
    "test_output.py::test_options",
    "test_windows.py::test_equal_windows_equal_outputs",
    "test_gradients.py::test_gradient_in_other_memory",
    "test_gradients.py::test_gradient",
    "test_state.py::test_memory_layout",
    "test_sizes.py::test_sizes",
)
"""The questions that catch most of all faults, the first the most for its cost."""

LAST = (
    "test_pipeline.py::test_after_each_layer",
    "test_sizes.py::test_large",
    "test_refusals.py::test_refused",
    "test_gradients.py::test_gradient_of_large",
    "test_shapes.py::test_static_shape",
    "test_stochastic_pool.py::test_frequencies",
)
"""The questions that cost most, the costliest for what it catches last."""

_PLACES = {
    **{question: place for place, question in enumerate(FIRST)},
    **{question: place for place, question in enumerate(LAST, start=len(FIRST) + 1)},
}


def dealt(subjects: Iterable[str], count: int) -> Iterator[int]:
    """Yield for each question, given by its subject, the part of ``count`` that it falls to.

    Parts are numbered from 1. Each subject's are dealt in turn, so that neighbours, which cost
    alike, fall to different parts, and no part depends on what other subjects there are.
    """
    before: Counter[str] = Counter()
    for subject in subjects:
        yield before[subject] % count + 1
        before[subject] += 1


def place(question: str) -> int:
    """Return the place of a question, named ``FILE::TEST[PARAMETERS]``: lower is earlier."""
    return _PLACES.get(question.partition("[")[0], len(FIRST))
