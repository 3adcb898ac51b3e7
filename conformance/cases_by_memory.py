"""How arrays may lie in memory, and cases in every such way."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cnnformance.conformance import cases_by_option
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_spread import spread
from cnnformance.spec import layers as spec

MEMORIES = (
    "fortran", "strided", "sliced", "narrowed", "cropped", "reversed", "offset", "readonly",
)  # fmt: skip
"""The layouts of ``memory.arranged`` that any array can have."""


def laid_out(
    layer_type: type[spec.Layer], most: int | None = None, dtype: str = "float32"
) -> Iterator[Case]:
    """Yield the plain cases of a layer in every memory and ``broadcast``, or ``most`` of them.

    Each stretch of as many cases as there are memories has them all.
    """
    plain, memories = (
        list(spread(cases_by_option.plain(layer_type, dtype))),
        (*MEMORIES, "broadcast"),
    )
    round_trip = math.lcm(len(plain), len(memories))
    for number in range(len(plain) * len(memories))[:most]:
        memory = memories[(number + number // round_trip) % len(memories)]
        yield plain[number % len(plain)].with_(memory=memory)
