"""How arrays may lie in memory, and cases in every such way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from cnnformance.conformance import designed
from cnnformance.conformance.cases import Case
from cnnformance.spec import layers as spec

MEMORIES = (
    "fortran", "strided", "sliced", "narrowed", "cropped", "reversed", "offset", "readonly",
)  # fmt: skip
"""The layouts of ``worker.arranged`` that any array can have."""


def laid_out(kind: type[spec.Layer], most: int | None = None) -> Iterator[Case]:
    """Yield the plain cases of a layer in every memory and ``broadcast``, or about ``most``."""
    plain = list(designed.plain(kind))
    pairs = list(itertools.product(plain, (*MEMORIES, "broadcast")))
    for case, memory in pairs[:: max(1, len(pairs) // (most or len(pairs)))]:
        yield case.with_(memory=memory)
