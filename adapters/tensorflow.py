"""TensorFlow: ``keras.layers`` on its TensorFlow backend, or the functions of ``tf.nn``.

A layer is a sequence of calls, each a name and its keywords. They are run, and shown in a script,
as they stand in the two tables below.
"""

from __future__ import annotations

import inspect
import itertools
import math
import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial, reduce
from textwrap import indent
from typing import Any, cast

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Composed, Unsupported, Weights
from cnnformance.spec.layers import (
    Adaptive,
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
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
    Shape,
    StochasticPool,
    Windowed,
    weight_shapes,
)

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # type: ignore[import-untyped]  # it ships no types
import tensorflow as tf  # type: ignore[import-untyped]  # likewise

# Kept for the first operation; nothing starts here.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.get_logger().setLevel("ERROR")

Call = tuple[str, dict[str, Any]]


class Weight(str):
    """The name of a weight, where a call takes its array."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"weights[{str(self)!r}]"


def flatten(x: Any, start: int) -> Any:
    """Join the axes from ``start`` on. Raises ``ValueError`` for a start past the rank."""
    if start > len(x.shape):
        raise ValueError(f"an input of {len(x.shape)} axes has no axis {start}")
    return tf.reshape(x, (*x.shape[:start], math.prod(x.shape[start:])))


def stochastic_pool(x: Any, window: Shape, stride: Shape, training: bool) -> Any:
    """Draw one element of every window, or average them by probability."""
    taken = []
    for offset in itertools.product(*map(range, window)):
        axes = zip(x.shape[1:-1], window, stride, offset, strict=True)
        steps = (slice(o, n - w + o + 1 if n >= w else o, s) for n, w, s, o in axes)
        taken.append(x[(slice(None), *steps)])
    cells = tf.stack(taken, axis=-1)
    if not training:
        return tf.math.divide_no_nan(tf.reduce_sum(cells * cells, -1), tf.reduce_sum(cells, -1))
    rows = tf.reshape(cells, (math.prod(cells.shape[:-1]), cells.shape[-1]))
    wide = tf.cast(rows, tf.float64)
    empty = tf.reduce_all(wide == 0, axis=-1, keepdims=True)
    drawn = tf.random.categorical(tf.where(empty, tf.zeros_like(wide), tf.math.log(wide)), 1)
    return tf.reshape(tf.gather(rows, drawn, batch_dims=1), cells.shape[:-1])


NAMES = {"keras": keras, "tf": tf, "flatten": flatten, "stochastic_pool": stochastic_pool}


def explicit(layer: Layer) -> bool:
    """Whether the layer pads by numbers."""
    padding = getattr(layer, "padding", ())
    return not isinstance(padding, str) and any(map(any, padding))


def pads(layer: Windowed) -> list[Any]:
    """Return the explicit padding of every axis, batch and channels too."""
    return [[0, 0], *map(list, layer.padding), [0, 0]]


def word(layer: Windowed) -> str:
    """Return the padding as a word. Raises ``Unsupported`` where no word says it."""
    if explicit(layer):
        raise Unsupported(f"TensorFlow takes no explicit pads in {type(layer).__name__}")
    if not isinstance(layer.padding, str):
        return "valid"
    if getattr(layer, "count_include_pad", False):
        raise Unsupported("TensorFlow never counts the padding of an average")
    return layer.padding


def keras_call(layer: Layer) -> list[Call]:  # noqa: PLR0911 - a table, one case per layer
    """Return the layer of Keras. Raises ``Unsupported`` where there is none."""
    pooling = f"keras.layers.{type(layer).__name__}ing{getattr(layer, 'rank', 0)}D"
    match layer:
        case Pool(dilation=dilation) if set(dilation) != {1}:
            raise Unsupported("Keras pools without dilation")
        case MaxPool(window, stride) | AveragePool(window, stride):
            return [(pooling, {"pool_size": window, "strides": stride, "padding": word(layer)})]
        case GlobalAveragePool() | GlobalMaxPool():
            return [(pooling, {})]
        case AdaptiveAveragePool(output) | AdaptiveMaxPool(output):
            return [(pooling, {"output_size": output})]
        case Conv(stride=stride, dilation=dilation) if max(stride) > 1 and max(dilation) > 1:
            raise Unsupported("Keras convolves with a stride or a dilation, and not both")
        case Conv(window, stride, _, dilation, _, filters, groups, bias):
            at = {"strides": stride, "padding": word(layer), "dilation_rate": dilation}
            more = {"groups": groups, "use_bias": bias}
            given = {"filters": filters, "kernel_size": window, **at, **more}
            return [(f"keras.layers.Conv{layer.rank}D", given)]
        case Dense(_, units, bias) if units != 0:
            return [("keras.layers.Dense", {"units": units, "use_bias": bias})]
        case ReLU():
            return [("keras.layers.ReLU", {})]
        case Flatten(start=1):
            return [("keras.layers.Flatten", {})]
    raise Unsupported(f"Keras has no layer for {layer}")


def nn_call(layer: Layer) -> list[Call]:  # noqa: C901, PLR0911 - a table, one case per layer
    """Return the functions of TensorFlow. Raises ``Unsupported`` where there are none."""
    rank = getattr(layer, "rank", 0)
    axes = list(range(1, rank + 1))
    bias: list[Call] = [("tf.nn.bias_add", {"bias": Weight("bias")})]
    at: dict[str, Any] = {}
    padding: Any = None
    if isinstance(layer, Windowed):
        lists = rank < 3 if isinstance(layer, MaxPool) else isinstance(layer, Conv) and rank == 2
        padding = pads(layer) if explicit(layer) and lists else word(layer).upper()
    match layer:
        case MaxPool(window, stride, _, dilation) | AveragePool(window, stride, _, dilation):
            kind = "max" if isinstance(layer, MaxPool) else "avg"
            if set(dilation) == {1}:
                at = {"ksize": window, "strides": stride, "padding": padding}
                return [(f"tf.nn.{kind}_pool{rank}d", at)]
            if max(stride) > 1 or padding != "VALID":
                raise Unsupported("tf.nn.pool dilates at stride 1 and without padding")
            at = {"window_shape": window, "pooling_type": kind.upper(), "dilations": dilation}
            return [("tf.nn.pool", at)]
        case GlobalAveragePool():
            return [("tf.math.reduce_mean", {"axis": axes})]
        case GlobalMaxPool():
            return [("tf.math.reduce_max", {"axis": axes})]
        case Conv(groups=groups) if groups > 1 and rank == 3:
            raise Unsupported("tf.nn.conv3d has no groups on a CPU")
        case Conv(_, stride, _, dilation):
            at["stride" if rank == 1 else "strides"] = [1, *stride, 1]
            at |= {"padding": padding, "dilations": [1, *dilation, 1]}
            conv = (f"tf.nn.conv{rank}d", {"filters": Weight("weight"), **at})
            return [conv, *bias[: layer.bias]]
        case Dense():
            at = {"b": Weight("weight"), "transpose_b": True}
            return [("tf.linalg.matmul", at), *bias[: layer.bias]]
        case ReLU():
            return [("tf.nn.relu", {})]
        case Flatten(start):
            return [("flatten", {"start": start})]
    raise Unsupported(f"TensorFlow has no function for {layer}")


def calls(layer: Layer, own: Callable[[Layer], list[Call]]) -> list[Call]:  # noqa: PLR0911 - a table, one case per layer
    """Return the framework's own call or, for want of one, a composition.

    L2 pooling is the root of the average of the squares times their number. Raises
    ``Unsupported`` where there is neither.
    """
    if getattr(layer, "ceil_mode", False) or getattr(layer, "padding", ()) == "same_lower":
        raise Unsupported("TensorFlow rounds the number of windows down, and pads after first")
    try:
        return own(layer)
    except Unsupported:
        fields = vars(layer)
        match layer:
            case MinPool():
                negate: Call = ("tf.math.negative", {})
                return [negate, *calls(MaxPool.unchecked(**fields), own), negate]
            case LpPool(window, p=p):
                mean = calls(AveragePool.unchecked(**fields, count_include_pad=True), own)
                total = [*mean, ("tf.math.multiply", {"y": math.prod(window)})]
                if p == 2:
                    return [("tf.math.square", {}), *total, ("tf.math.sqrt", {})]
                power, root = ("tf.math.pow", {"y": p}), ("tf.math.pow", {"y": 1 / p})
                return [("tf.math.abs", {}), power, *total, root]
            case StochasticPool(window, stride, training=training):
                at = {"window": window, "stride": stride, "training": training}
                return [("stochastic_pool", at)]
            case AveragePool(count_include_pad=True) | Conv() if explicit(layer):
                unpadded = calls(type(layer).unchecked(**fields | {"padding": ()}), own)
                if own is nn_call:
                    return [("tf.pad", {"paddings": pads(layer)}), *unpadded]
                padding = layer.padding if layer.rank > 1 else layer.padding[0]
                return [(f"keras.layers.ZeroPadding{layer.rank}D", {"padding": padding}), *unpadded]
        raise


def input_shape(layer: Layer) -> tuple[int | None, ...]:
    """Return the shape that a layer of Keras is built for; ``None`` is any size."""
    match layer:
        case Conv(in_channels=channels):
            return (*[None] * (layer.rank + 1), channels)
        case Dense(features):
            return (None, features)
    return (None,) * (getattr(layer, "rank", 0) + 2)


KERAS = """\
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf

print("TensorFlow", tf.__version__, "Keras", keras.__version__)
"""

FUNCTIONS = """\
import tensorflow as tf

print("TensorFlow", tf.__version__)
"""

CONSTANTS = "weights = {name: tf.constant(array) for name, array in weights.items()}\n"

TAPE = """\
t, held = tf.constant(x), {held}
with tf.GradientTape() as tape:
    tape.watch([t, *held])
    y = run(t)
found = tape.gradient(y, [t, *(held or tape.watched_variables())], tf.constant(upstream), "zero")
gradients = {{name: g.numpy() for name, g in zip(["input", *weights], found)}}
"""

TURN = 'gradients["weight"] = gradients["weight"].T\n'

TRACED = """\
weights = {{name: tf.TensorSpec(size) for name, size in {sizes}.items()}}
traced = tf.function(run, autograph=False).get_concrete_function(tf.TensorSpec(shape), weights)
shape = tuple(traced.structured_outputs.shape)
"""

SELECTIONS = (MaxPool, GlobalMaxPool, AdaptiveMaxPool, ReLU, Flatten)
"""The layers that take integers, because their results are elements of the input or 0."""


class TensorFlow(Backend):
    """TensorFlow, by default as the layers of Keras.

    A layer of Keras is made in the dtype of its input: it would cast the input to its own.

    Modes:
        nn: the functions of ``tf.nn`` and ``tf.math``, eager.
        function: the same, traced by ``tf.function``.
        xla: the same, compiled by ``tf.function(jit_compile=True)``.
    """

    dtypes = ("bfloat16", "float16", "float32", "float64", "int8", "uint8", "int32", "int64")
    modes = ("nn", "function", "xla")

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Find the device. Raises ``Unsupported`` where there is none."""
        super().__init__(mode, device)
        kind = {"cpu": "CPU", "cuda": "GPU"}.get(device, device)
        if not tf.config.list_physical_devices(kind):
            raise Unsupported(f"TensorFlow finds no device {device!r}")
        if keras.backend.backend() != "tensorflow":
            raise Unsupported(f"Keras was imported with the backend {keras.backend.backend()!r}")
        self._place = f"{kind}:0"
        self._seed = 0
        tf.config.experimental.enable_tensor_float_32_execution(False)
        # Keras and XLA go around what TensorFlow's kernels for convolution lack on a CPU.
        self._kernels = mode in ("nn", "function")

    def version(self) -> str:
        """Return the versions of TensorFlow and Keras."""
        return f"{tf.__version__}, Keras {keras.__version__}"

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers are selected and not summed; kernels of rank 3 lack most dtypes."""
        if dtype not in self.dtypes or (dtype == "int8" and not self.mode):
            return False
        if isinstance(layer, Pool | Adaptive) and layer.rank == 3:
            return dtype in ("bfloat16", "float32") or (dtype, self.mode) == ("float16", "xla")
        if isinstance(layer, Conv) and layer.rank == 3 and max(layer.dilation) > 1:
            return dtype in ("bfloat16", "float32") or ("float" in dtype and not self._kernels)
        return "float" in dtype or isinstance(layer, SELECTIONS)

    def from_numpy(self, array: Array) -> Any:
        """Return a tensor on the device."""
        with tf.device(self._place):
            return tf.constant(array)

    def to_numpy(self, tensor: Any) -> Array:
        """Return a copy."""
        return np.array(tensor.numpy())

    def seed(self, seed: int) -> None:
        """Seed stochastic pooling."""
        tf.random.set_seed(seed)
        self._seed = seed

    def _calls(self, layer: Layer) -> list[Call]:
        if self.mode == "xla" and isinstance(layer, MaxPool | MinPool) and explicit(layer):
            raise Unsupported("XLA takes no explicit pads in pooling")
        return calls(layer, nn_call if self.mode else keras_call)

    def _steps(self, layer: Layer, weights: Mapping[str, Any], dtype: str) -> list[Any]:
        """Return the calls as callables that hold the weights; without weights, not yet built."""
        steps: list[Any] = []
        for name, keywords in self._calls(layer):
            root, *path = name.split(".")
            function: Any = reduce(getattr, path, NAMES[root])
            if root != "keras":
                held = {k: weights[v] if isinstance(v, Weight) else v for k, v in keywords.items()}
                steps.append(partial(function, **held))
                continue
            # drawing weights that are then replaced takes as long as the layer
            fill = {"kernel_initializer": "zeros"} if "use_bias" in keywords else {}
            steps.append(function(**keywords, **fill, dtype=dtype))
            if weights and "use_bias" in keywords:
                steps[-1].build(input_shape(layer))
                turn = tf.transpose if isinstance(layer, Dense) else tf.identity
                steps[-1].set_weights([turn(weight) for weight in weights.values()])
        return steps

    def _run(self, steps: list[Any]) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            return reduce(lambda y, step: step(y), steps, x)

        if self.mode in ("", "nn"):
            return run
        # autograph would leave a file behind for every function; nothing here needs it
        traced = tf.function(run, autograph=False, jit_compile=self.mode == "xla")
        return cast("Callable[[Any], Any]", traced)

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the layer of Keras, or the function; made at the first call for a dtype."""
        names = [name for name, _ in self._calls(layer) if name != "tf.nn.bias_add"]
        held = {name: self.from_numpy(array) for name, array in weights.items()}

        draws = names == ["stochastic_pool"]

        @lru_cache(maxsize=len(self.dtypes))
        def made(dtype: str, _seed: int) -> Callable[[Any], Any]:
            return self._run(self._steps(layer, held, dtype))

        def call(x: Any) -> Any:
            # a traced function keeps the seed that it was traced with
            return made(x.dtype.name, self._seed if draws else 0)(x)

        if draws:
            return Composed(call, "strided slices, and tf.random.categorical")
        return Composed(call, ", ".join(names)) if len(names) > 1 else call

    def parameters(self, layer: Layer) -> int:
        """Return Keras's count, of variables in a graph: those take no memory."""
        if self.mode:
            raise Unsupported("the functions of TensorFlow hold no weights")
        count = 0
        with tf.Graph().as_default():
            for step in self._steps(layer, {}, "float32"):
                if isinstance(step, keras.Layer):
                    step.build(input_shape(layer))
                    count += int(step.count_params())
        return count

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Return the answer of Keras's layers, or the shape of the traced functions."""
        if not self.mode:
            if isinstance(layer, StochasticPool):
                raise Unsupported("Keras has no stochastic pooling to ask for a shape")
            for step in self._steps(layer, {}, "float32"):
                if isinstance(step, keras.Layer):
                    shape = tuple(step.compute_output_shape(shape))
            return shape

        def whole(x: Any, held: Mapping[str, Any]) -> Any:
            return self._run(self._steps(layer, held, "float32"))(x)

        held = {name: tf.TensorSpec(size) for name, size in weight_shapes(layer).items()}
        function: Any = tf.function(whole, autograph=False)
        traced = function.get_concrete_function(tf.TensorSpec(shape), held)
        stated = tuple(traced.structured_outputs.shape)
        if None in stated:
            raise ValueError(f"TensorFlow states only {stated}")
        return stated

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return the gradients of ``tf.GradientTape``."""
        match layer:
            case Conv(window=(_, _)) if self._kernels and explicit(layer):
                if max(layer.groups, *layer.dilation) > 1:
                    raise Unsupported("tf.nn.conv2d has no such gradient on a CPU, with pads")
            case Conv() if self._kernels and x.dtype != np.float32:
                if max(layer.groups, *layer.dilation) > 1:
                    raise Unsupported("tf.nn has such a gradient on a CPU in float32 alone")
        given = self.from_numpy(x)
        held = {name: self.from_numpy(array) for name, array in weights.items()}
        steps = self._steps(layer, held, given.dtype.name)
        variables = [v for s in steps if isinstance(s, keras.Layer) for v in s.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch([given, *held.values()])
            y = self._run(steps)(given)
        found = tape.gradient(
            y,
            [given, *(variables or held.values())],
            output_gradients=self.from_numpy(upstream),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        arrays = dict(zip(["input", *weights], map(self.to_numpy, found), strict=True))
        if variables and isinstance(layer, Dense):
            arrays["weight"] = arrays["weight"].T
        return arrays

    def script(self, layer: Layer, x: Array) -> str:
        """Return the calls, one a line."""
        constants = CONSTANTS if self.mode and layer.has_weights else ""  # no part of the graph
        source = self._source(layer, x.dtype.name)
        return f"{source}\n{constants}y = run(tf.constant(x)).numpy()\n"

    def gradient_script(self, layer: Layer, x: Array, upstream: Array) -> str:
        """Return the calls, one a line, and a tape."""
        del upstream
        constants, held = (CONSTANTS, "list(weights.values())") if self.mode else ("", "[]")
        turn = TURN if isinstance(layer, Dense) and not self.mode else ""
        source = self._source(layer, x.dtype.name)
        return f"{source}\n{constants}{TAPE.format(held=held)}{turn}"

    def count_script(self, layer: Layer) -> str:
        """Return the layers of Keras, built in a graph, and their counts."""
        if self.mode:
            raise Unsupported("the functions of TensorFlow hold no weights")
        if isinstance(layer, StochasticPool):
            raise Unsupported("Keras has no stochastic pooling to count")
        lines = [KERAS, "count = 0", "with tf.Graph().as_default():"]
        for name, keywords in self._calls(layer):
            if name.startswith("keras."):
                given = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
                lines += [f"    layer = {name}({given})", f"    layer.build({input_shape(layer)})"]
                lines += ["    count += layer.count_params()"]
        return "\n".join([*lines, ""])

    def shape_script(self, layer: Layer, shape: Shape) -> str:
        """Return the layers of Keras, and what they state; or the shape of the traced functions."""
        del shape
        if isinstance(layer, StochasticPool):
            raise Unsupported("TensorFlow has no stochastic pooling to ask for a shape")
        if self.mode:
            run = self._source(layer, "float32", traced=False).replace("run(y)", "run(y, weights)")
            return f"{run}\n{TRACED.format(sizes=dict(weight_shapes(layer)))}"
        lines = [KERAS]
        for name, keywords in self._calls(layer):
            if name.startswith("keras."):
                given = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
                lines.append(f"shape = tuple({name}({given}).compute_output_shape(shape))")
        return "\n".join([*lines, ""])

    def _source(self, layer: Layer, dtype: str, *, traced: bool = True) -> str:
        """Return the definition of ``run``, and what it needs."""
        lines, functions, made = [], [], []
        for name, keywords in self._calls(layer):
            given = "".join(f", {key}={value!r}" for key, value in keywords.items())
            if not name.startswith("keras."):
                if name in NAMES:
                    functions += ["import itertools\nimport math\nfrom typing import Any\n"]
                    functions += ["Shape = tuple\n", inspect.getsource(NAMES[name])]
                lines.append(f"y = {name}(y{given})")
                continue
            own = f"layer{len(lines) or ''}"
            made.append(f"{own} = {name}(dtype={dtype!r}{given})")
            if "use_bias" in keywords:
                turned = ".T" if isinstance(layer, Dense) else ""
                made.append(f"{own}.build({input_shape(layer)})")
                made.append(f"{own}.set_weights([w{turned} for w in weights.values()])")
            lines.append(f"y = {own}(y)")
        options = {"function": "", "xla": ", jit_compile=True"}
        graph = f"@tf.function(autograph=False{options.get(self.mode, '')})\n"
        graph = graph if traced and self.mode in options else ""
        body = indent("\n".join([*lines[:-1], f"return {lines[-1].removeprefix('y = ')}"]), "    ")
        imports = FUNCTIONS if self.mode else KERAS
        return "\n".join([imports, *functions, *made, f"{graph}def run(y):\n{body}\n"])
