"""The quarantine: requests that hung again and again are not put any more."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnformance.adapters.exceptions import Stopped
from cnnformance.spec.layers import Layer

_HANGS = 3
"""Of like requests, before no more of them are put."""
_MOST_HANGS = 6
"""Of a layer type, before it is not asked at all."""
_SIZES = {"window", "in_channels", "out_channels", "in_features", "out_features", "output", "rank"}
"""Fields that have no plain value, or none that would tell anything."""
_CALLED = {"run": "", "twice": ""}
"""Requests that call a layer; the others are told by their names."""

Features = frozenset[str]


@dataclass
class Quarantine:
    """The requests that are not put any more.

    Hangs of one layer type count together, those of models as a type of their own, and each request
    by itself: a script that hangs says nothing of its layer. What is barred is all
    that has the rank and the options (each field that is not as in a plain layer) which the hung
    ones have in common; after more hangs, the whole type. The rank is the number of spatial axes:
    a layer's own or, where it takes any, that of its input.
    """

    barred: dict[str, dict[Features, str]] = field(default_factory=dict)
    _hung: dict[str, list[Features]] = field(default_factory=lambda: defaultdict(list))

    @property
    def reasons(self) -> dict[str, str]:
        """The reason for each quarantine, by what is in it."""
        return {
            _titled(name, features): reason
            for name, barred in self.barred.items()
            for features, reason in barred.items()
        }

    def check(self, ask: str, layers: Sequence[Layer], rank: int | None = None) -> None:
        """Raise ``Stopped`` for a request that is barred, or whose model holds what is.

        ``rank`` is that of the input, where there is one.
        """
        for name, features in _asked(ask, layers, rank) if self.barred else ():
            for common, reason in self.barred.get(name, {}).items():
                if common <= features:
                    raise Stopped(f"{_titled(name, common)} {reason}, and is not asked any more")

    def add(self, ask: str, layers: Sequence[Layer], rank: int | None = None) -> None:
        """Count a hang, on an input of that rank."""
        name, features = next(_asked(ask, layers, rank))
        hung = self._hung[name]
        hung.append(features)
        if len(hung) >= _MOST_HANGS:
            self.barred[name] = {Features(): f"hung {len(hung)} times"}
        elif len(hung) == _HANGS:
            self.barred[name] = {Features.intersection(*hung): f"hung {_HANGS} times"}


def _asked(ask: str, layers: Sequence[Layer], rank: int | None) -> Iterator[tuple[str, Features]]:
    """Yield the name and features of a request, then those of each layer of a model."""
    request = _CALLED.get(ask, ask)
    if len(layers) != 1:
        name = "Model" if layers else ""
        yield " of ".join(filter(None, (request, name))), Features()
    for layer in layers:
        options, own = _options(layer), _rank(layer)
        rank = rank if own is None else own
        features = options if rank is None else options | {f"rank {rank}"}
        yield " of ".join(filter(None, (request, type(layer).__name__))), features
        if not (layer.takes_images or layer.elementwise):
            rank = None


def _options(layer: Layer) -> Features:
    """Return each option of a layer that is not as in a plain one."""
    fields = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
    sizes = {name: value for name, value in fields.items() if name in _SIZES}
    plain = type(layer).unchecked(**sizes)
    return Features(
        n for n, value in fields.items() if n not in _SIZES and value != getattr(plain, n)
    )


def _rank(layer: Any) -> int | None:
    """Return how many spatial axes a layer takes; ``None``: any, or it has no meaning."""
    with contextlib.suppress(AttributeError, TypeError):  # the window may be no tuple
        return int(layer.rank)
    return None


def _titled(name: str, features: Features) -> str:
    return f"{name} ({', '.join(sorted(features))})" if features else name
