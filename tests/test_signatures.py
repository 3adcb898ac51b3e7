"""A default is the framework's own: its signature states it, and a call without it shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnnformance.adapters import registry
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.contrast import Side
from cnnformance.conformance.signatures import NotAsked, Option, default
from cnnformance.spec.layers import Conv, MaxPool, ReLU

FRAMEWORK = """
import numpy as np

def pool(x, size, stride=None, scale=1):
    stride = stride or 2 * size
    windows = np.lib.stride_tricks.sliding_window_view(x, size, 1)[:, ::stride]
    return scale * windows.max(-1)
"""

BACKEND = """
import fake_framework
from cnnformance.adapters.backend import Backend, Unsupported
from cnnformance.spec.layers import MaxPool, ReLU

class Fake(Backend):
    def build(self, layer, weights):
        match layer:
            case MaxPool((window,), (stride,), ((0, 0),), (1,), False):
                return lambda x: fake_framework.pool(x, window, stride)
            case ReLU():
                return lambda x: x
        raise Unsupported("there is no such layer")

    def script(self, layer, x):
        match layer:
            case MaxPool((window,), (stride,), ((0, 0),), (1,), False):
                return f"import fake_framework\\ny = fake_framework.pool(x, {window}, {stride}, 1)"
            case ReLU():
                return "import numpy as np\\ny = np.maximum(x, 0)"
        raise Unsupported("there is no such layer")
"""

X = np.arange(1, 13, dtype=np.float32).reshape(1, 12, 1)


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    (tmp_path / "fake_framework.py").write_text(FRAMEWORK)
    (tmp_path / "backend.py").write_text(BACKEND)
    monkeypatch.syspath_prepend(tmp_path)
    target = registry.parse(f"{tmp_path}/backend.py:Fake")
    side = Side("fake", "", Subject(target, in_process=True))
    assert side.subject
    side.subject.start()
    yield side
    side.scratch.close()


def _option(layer: MaxPool, *others: MaxPool) -> Option:
    return Option("MaxPool", "", layer, others, (X, X))


def test_a_default_is_read_off_the_signature_and_seen(side: Side) -> None:
    found = default(side, _option(MaxPool((3,)), MaxPool((3,), (2,))))
    assert (found.call, found.parameter, found.value) == ("fake_framework.pool", "stride", "None")
    assert found.answer.ravel().tolist() == [3, 9]  # of steps of twice the window


def test_an_argument_without_a_default_must_be_given(side: Side) -> None:
    found = default(side, _option(MaxPool((3,), (2,)), MaxPool((2,), (2,))))
    assert (found.parameter, found.value, found.answer) == ("size", "", None)


def test_an_option_that_the_framework_lacks_is_no_argument(side: Side) -> None:
    found = default(side, _option(MaxPool((3,)), MaxPool((3,), ceil_mode=True)))
    assert (found.parameter, found.value) == ("", "")
    assert found.answer.ravel().tolist() == [3, 6, 9, 12]


def test_what_does_not_tell_is_not_asked(side: Side) -> None:
    two = _option(MaxPool((3,)), MaxPool((2,), (1,)))
    for option, why in (
        (two, "no argument of one call"),
        (Option("Conv", "", Conv((3,)), (Conv((3,), (2,)),), (X, X)), "no such layer"),
        (Option("ReLU", "", ReLU(), (ReLU(),), (X, X)), "no framework"),
    ):
        with pytest.raises(NotAsked, match=why):
            default(side, option)
    with pytest.raises(NotAsked, match="not installed"):
        default(Side("gone", "1"), two)
