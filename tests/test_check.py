"""``check`` and its kin: one function, from a program, a thread, a test, a command line."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import cnnformance
from cnnformance import check, conformance_test
from cnnformance.adapters import numpy_layers as layers
from cnnformance.adapters import registry
from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.function import NoLayerType, annotated, concrete, of
from cnnformance.adapters.importing import NoBackend, find
from cnnformance.spec.layers import (
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    Pool,
    ReLU,
)

T = TypeVar("T")
ROOT = Path(cnnformance.__file__).resolve().parents[1]


def relu(x: Array, layer: ReLU) -> Array:
    del layer
    with warnings.catch_warnings():
        warnings.warn("a worker process has no filter that makes errors", stacklevel=1)
    return np.maximum(x, 0)


def by_product(x: Array, layer: ReLU) -> Array:
    del layer
    return x * (x > 0)


def dies(x: Array, layer: ReLU) -> Array:
    del layer
    if x.dtype == np.float64:
        os.abort()
    return np.maximum(x, 0)


def dense(x: Array, layer: Dense, weights: dict[str, Array]) -> Array:
    y = x @ weights["weight"].T
    return np.asarray(y + weights["bias"] if layer.bias else y)


def of_channels_first(x: Array, layer: GlobalMaxPool) -> Array:
    if x.ndim != layer.rank + 2:
        raise ValueError("another rank")
    return np.asarray(x.reshape(*x.shape[:2], -1).max(-1))


def test_a_right_function_passes() -> None:
    result = check(relu, ReLU)
    assert result.passed
    assert result.failures == ()
    assert {v.verdict for v in result.run.verdicts} >= {"pass"}
    assert "relu" in result.table()
    assert "ReLU" in str(result)
    assert "<table>" in result._repr_html_()
    result.raise_for_failures()


def test_a_wrong_one_has_typed_counterexamples(capsys: pytest.CaptureFixture[str]) -> None:
    result = check(by_product, ReLU)
    assert capsys.readouterr() == ("", "")
    assert not result.passed
    found = next(each for each in result.failures if each.effect == "not-finite")
    assert found.layer == ReLU()
    assert found.x is not None
    assert found.x.size == 1
    assert not np.isfinite(found.x).any()
    assert (found.expected, found.actual) in (("0.0", "nan"), ("inf", "nan"))
    assert found.clause.startswith(f"{found.clauses[0]} (")
    with pytest.raises(AssertionError) as raised:
        result.raise_for_failures()
    assert all(each.message in str(raised.value) for each in result.failures)
    assert found.more
    assert f"{found.more} more questions" in str(raised.value)


def test_its_script_shows_the_failure_alone(tmp_path: Path) -> None:
    result = check(by_product, ReLU)
    found = next(each for each in result.failures if each.effect == "not-finite")
    assert found.script.startswith("# by_product: ReLU()")
    path = [str(ROOT), str(ROOT / "tests")]
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", found.script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "nan" in done.stdout
    assert "AssertionError" in done.stderr


def test_what_was_never_asked_is_no_pass() -> None:
    def half(x: Array, layer: ReLU | Flatten) -> Array:
        if isinstance(layer, Flatten):
            raise NotImplementedError("no flattening here")
        return np.maximum(x, 0)

    result = check(half, dtypes=["float32"])
    assert (result.failures, list(result.unasked)) == ((), ["Flatten"])
    assert not result.passed
    with pytest.raises(AssertionError, match="no flattening here"):
        result.raise_for_failures()


def test_weights_are_given_to_who_takes_them() -> None:
    assert check(dense, dtypes=["float32"]).passed


class Callables:
    """A callable that is no function, as compilers of kernels return."""

    def __call__(self, x: Array, layer: GlobalMaxPool) -> Array:
        return layers.global_max_pool(x, rank=layer.rank)


of_an_object = Callables()


def test_any_callable_is_a_function() -> None:
    for callable_ in (of_an_object, partial(of_an_object)):
        assert check(callable_, GlobalMaxPool, dtypes=["float32"]).passed
    assert find(f"{__file__}:of_an_object").__name__ == "Callables"
    with pytest.raises(NoBackend):
        find(f"{__file__}:ROOT")


def test_the_layout_is_the_functions_own() -> None:
    assert check(of_channels_first, dtypes=["float32"], layout="channels_first").passed
    assert not check(of_channels_first, dtypes=["float32"]).passed


def _in_a_thread(call: Callable[[], T]) -> T:
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def test_it_is_called_in_the_thread_that_asks() -> None:
    threads = set()

    def watched(x: Array, layer: ReLU) -> Array:
        del layer
        threads.add(threading.current_thread())
        return np.maximum(x, 0)

    assert _in_a_thread(lambda: check(watched, ReLU)).passed
    (thread,) = threads
    assert thread is not threading.main_thread()


def test_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    check(by_product, ReLU)
    assert list(tmp_path.iterdir()) == []


def test_an_isolated_function_may_die() -> None:
    result = check(dies, ReLU, isolated=True)
    assert {each.effect for each in result.failures} == {"crash"}
    assert "SIGABRT" in str(result)
    with pytest.raises(ValueError, match="cannot be imported elsewhere"):
        check(lambda x, layer: x, ReLU, isolated=True)  # noqa: ARG005


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profile": "slow"}, "slow"),
        ({"seed": -1}, "no integer of 0 or more"),
        ({"dtypes": ["single"]}, "dtypes is"),
        ({"layout": "nchw"}, "layout is 'nchw'"),
        ({"layers": int}, "no layer type"),
        ({"layers": []}, "no layer type is named"),
    ],
)
def test_an_option_that_means_nothing_is_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(relu, **options)


def test_an_interrupt_ends_the_check() -> None:
    def interrupted(x: Array, layer: ReLU) -> Array:
        raise KeyboardInterrupt(x, layer)

    with pytest.raises(KeyboardInterrupt):
        check(interrupted, ReLU)


@conformance_test(ReLU, dtypes=["float32"])
def test_a_function_as_a_test(x: Array, layer: ReLU) -> Array:
    del layer
    return np.maximum(x, 0)


SUITE = """\
import numpy as np
from cnnformance import conformance_test
from cnnformance.spec.layers import GlobalMaxPool, ReLU

@conformance_test(ReLU)
def test_right(x, layer):
    return np.maximum(x, 0)

@conformance_test(ReLU)
def test_wrong(x, layer):
    return x * (x > 0)

@conformance_test(dtypes=["float32"])
def test_another(x, layer: GlobalMaxPool):
    return x.max(tuple(range(1, layer.rank + 1)))
"""


def test_in_a_suite_of_ones_own(tmp_path: Path) -> None:
    """Nested in pytest: two processes, output captured, warnings made errors."""
    (tmp_path / "test_mine.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "should be exactly 0.0" in done.stdout
    assert "/checking" not in done.stdout  # of the failure, nothing of ours is shown
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"test_mine.py"}


def test_the_package_imports_no_numpy() -> None:
    program = (
        "import sys, cnnformance; assert 'numpy' not in sys.modules; "
        "assert callable(cnnformance.check) and callable(cnnformance.conformance_test)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)  # noqa: S603


def of_two(x: Array, layer: MaxPool | MinPool) -> Array:
    return layers.FORWARD[type(layer)](x, **vars(layer))


def of_text(x: Any, layer: MissingHere | spec.Conv | LpPool) -> None:  # type: ignore[name-defined] # noqa: F821
    """Is annotated as under ``if TYPE_CHECKING``."""


def of_none(x: Any, layer) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Says nothing."""


def of_numbers(x: Any, layer: int) -> None:
    """Is of no layer."""


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (relu, (ReLU,)),
        (of_two, (MaxPool, MinPool)),
        (of_text, (LpPool, Conv)),
    ],
)
def test_the_annotation_names_the_layers(
    function: Callable[..., Any], kinds: tuple[type[Layer], ...]
) -> None:
    assert annotated(function) == kinds


@pytest.mark.parametrize("function", [of_none, of_numbers, len, lambda x: x])
def test_another_annotation_is_told(function: Callable[..., Any]) -> None:
    with pytest.raises(NoLayerType, match="layer"):
        annotated(function)


def test_a_base_means_all_of_its_types() -> None:
    assert set(concrete(Pool)) > {MaxPool, LpPool}
    assert concrete([ReLU | Dense, GlobalAveragePool]) == (GlobalAveragePool, ReLU, Dense)


def test_an_exception_of_the_caller_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def alarmed(*_: object) -> None:
        raise TimeoutError("the caller's own alarm")

    monkeypatch.setattr("cnnformance.checking_run.serve", alarmed)
    with pytest.raises(TimeoutError, match="own alarm"):
        check(relu, ReLU)


def test_a_decorated_test_may_be_isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import numpy as np
from cnnformance import conformance_test
from cnnformance.spec.layers import ReLU

@conformance_test(ReLU, isolated=True)
def test_relu(x, layer):
    return np.maximum(x, 0)
"""
    (tmp_path / "decorated.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("decorated").test_relu()


async def waits(x: Array, layer: ReLU) -> Array:
    return np.maximum(x, layer.least)


@pytest.mark.parametrize("function", [None, 3, "relu", np, int, waits])
def test_what_is_no_function_is_told_before_anything_is_asked(function: Any) -> None:
    with pytest.raises(NoLayerType, match=r"no function|returns a coroutine"):
        check(function, ReLU)


def test_a_script_of_what_cannot_be_imported_says_so() -> None:
    source = of(lambda x, layer: x, ReLU)().script(ReLU(), np.ones(1))  # noqa: ARG005
    assert "_lambda_ is the function that was checked: define it here" in source
    ast.parse(source)


def test_attributes_of_a_function_say_what_it_takes() -> None:
    def narrow(x: Array, layer: ReLU) -> Array:
        del layer
        return x

    narrow.dtypes = ("float16",)  # type: ignore[attr-defined]
    narrow.layout = "channels_first"  # type: ignore[attr-defined]
    backend = of(narrow)
    assert (backend.dtypes, backend.layout) == (("float16",), "channels_first")


def test_a_function_is_given_valid_layers_alone() -> None:
    backend = of(of_two)()
    with pytest.raises(Unsupported, match="no function is given such a layer"):
        backend.build(MaxPool.unchecked(window=(0,)), {})
    with pytest.raises(Unsupported, match="not for ReLU"):
        backend.build(ReLU(), {})


def test_a_file_and_a_module_name_a_function() -> None:
    for name in (f"{__file__}:of_two", "tests.kernels:of_two", "my_package.kernels:Class"):
        assert registry.parse(name).path == name
    assert registry.parse("torch:compile").mode == "compile"
    backend = find(f"{__file__}:of_two")
    assert backend.__name__ == "of_two"
    with pytest.raises(NoBackend, match="the layer of of_none has no annotation"):
        find(f"{__file__}:of_none")


def test_pytest_takes_a_function_for_a_backend(tmp_path: Path) -> None:
    source = SUITE.partition("@")[0] + "def relu(x, layer: ReLU):\n    return np.maximum(x, 0)\n"
    (tmp_path / "kernels.py").write_text(f"{source}def bare(x, layer):\n    return x\n")

    def asked(name: str) -> subprocess.CompletedProcess[str]:
        options = ["--profile=quick", "-q", "-p", "no:cacheprovider", "-k", "test_output and ReLU"]
        return subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-m", "pytest", str(ROOT / "conformance"), "--rootdir", str(ROOT),
             "--backend", f"kernels.py:{name}", "--record", "verdicts.jsonl", *options],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    right, bare = asked("relu"), asked("bare")
    assert right.returncode == 0, right.stdout
    assert "2 pass" in right.stdout
    assert bare.returncode == 4
    assert "the layer of bare has no annotation: write def bare(x, layer: MaxPool)" in bare.stderr


def test_a_function_is_given_arrays_that_fit_its_layer() -> None:
    seen: list[tuple[int, int]] = []

    def trusting(x: Array, layer: MaxPool) -> Array:
        seen.append((x.ndim, layer.rank + 2))
        raise NotImplementedError

    check(trusting, profile="quick")

    assert seen
    assert all(axes == expected for axes, expected in seen)
