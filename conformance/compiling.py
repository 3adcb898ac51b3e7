"""Whether a subject compiles for each new shape."""

from __future__ import annotations

import numpy as np

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Refused, Stopped
from cnnformance.adapters.subject import Subject
from cnnformance.spec import layers as spec

_COMPILING = 0.012
"""The seconds above which the first call with a new shape has compiled something."""


def compiles(subject: Subject) -> bool:
    """Whether a subject compiles for each new shape: its first call is the costly one.

    Five shapes of the first layer that it has are measured, on the subject's own clock, and the
    least of them counts, so that a busy machine makes no difference. Of those that compile the
    first call costs 30 ms and more, a hundred times the next; of others, 0.5 ms.
    """
    for layer in (spec.ReLU(), spec.MaxPool((2, 2)), spec.GlobalMaxPool(2), spec.Flatten()):
        new, old = [], []
        for size in (5, 6, 7, 8, 9):
            x = np.ones((1, size, size + 1, 2), np.float32)
            try:
                first, *others = (subject.run([layer], [{}], x).seconds for _ in range(4))
            except Unsupported:
                break
            except (Refused, Crashed, AdapterBroke, Stopped):
                return False  # a question shows it
            new.append(first)
            old.append(min(others))
        else:
            return min(new) > max(_COMPILING, 10 * min(old))
    return False
