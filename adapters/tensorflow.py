"""TensorFlow: ``keras.layers`` on its TensorFlow backend, or the functions of ``tf.nn``."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any, cast

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # type: ignore[import-untyped]  # it ships no types
import numpy as np
import tensorflow as tf  # type: ignore[import-untyped]  # likewise

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Tensor
from cnnformance.adapters.compositions import TENSORFLOW, rounds_down
from cnnformance.adapters.keras_layers import KerasLayers
from cnnformance.adapters.padding import is_explicit
from cnnformance.adapters.table import Definition
from cnnformance.adapters.tensorflow_functions import function
from cnnformance.spec.layers import (
    Adaptive,
    AdaptiveMaxPool,
    Conv,
    Flatten,
    GlobalMaxPool,
    Layer,
    MaxPool,
    Pool,
    ReLU,
    Shape,
)

# Kept for the first operation; nothing starts here.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.get_logger().setLevel("ERROR")

KERAS = """\
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
"""

SELECTIONS = (MaxPool, GlobalMaxPool, AdaptiveMaxPool, ReLU, Flatten)
"""The layers that take integers, because their results are elements of the input or 0."""


class TensorFlow(KerasLayers):
    """TensorFlow, by default as the layers of Keras.

    Modes:
        nn: the functions of ``tf.nn`` and ``tf.math``, eager.
        function: the same, traced by ``tf.function``.
        xla: the same, compiled by ``tf.function(jit_compile=True)``.
    """

    dtypes = ("bfloat16", "float16", "float32", "float64", "int8", "uint8", "int32", "int64")
    modes = ("nn", "function", "xla")
    compositions = TENSORFLOW

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Find the device. Raises ``Unsupported`` where there is none."""
        super().__init__(mode, device)
        kind = {"cpu": "CPU", "cuda": "GPU"}.get(device, device)
        if not tf.config.list_physical_devices(kind):
            raise Unsupported(f"TensorFlow finds no device {device!r}")
        if keras.backend.backend() != "tensorflow":
            raise Unsupported(f"Keras was imported with the backend {keras.backend.backend()!r}")
        self._place = f"{kind}:0"
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self.imports = "import tensorflow as tf" if mode else KERAS
        said = "" if mode else ', "Keras", keras.__version__'
        self.printed = f'print("TensorFlow", tf.__version__{said})'
        compiled = {"function": "", "xla": ", jit_compile=True"}
        if mode in compiled:  # autograph would leave a file behind for every function
            self.wrapper = f"tf.function({{}}, autograph=False{compiled[mode]})"

    def version(self) -> str:
        """Return the versions of TensorFlow and Keras."""
        return f"{tf.__version__}, Keras {keras.__version__}"

    def within(self) -> AbstractContextManager[Any]:
        """Compute on the device."""
        return cast("AbstractContextManager[Any]", tf.device(self._place))

    @property
    def _kernels(self) -> bool:
        """Whether TensorFlow's own kernels run: Keras and XLA go around what they lack on a CPU."""
        return self.mode in ("nn", "function")

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers are selected and not summed; kernels of rank 3 lack most dtypes."""
        if dtype not in self.dtypes or (dtype == "int8" and not self.mode):
            return False
        if isinstance(layer, Pool | Adaptive) and layer.rank == 3:
            return dtype in ("bfloat16", "float32") or (dtype, self.mode) == ("float16", "xla")
        if isinstance(layer, Conv) and layer.rank == 3 and max(layer.dilation) > 1:
            return dtype in ("bfloat16", "float32") or ("float" in dtype and not self._kernels)
        return "float" in dtype or isinstance(layer, SELECTIONS)

    def native(self, layer: Layer, x: Tensor) -> Call:
        """Return the layer of Keras, or the function, called with ``x``."""
        if not self.mode:
            return super().native(layer, x)
        rounds_down(layer)
        if self.mode == "xla" and isinstance(layer, MaxPool) and is_explicit(layer):
            raise Unsupported("XLA takes no explicit pads in pooling")
        return function(layer, x)

    def tensor(self, name: str, array: Array) -> str:
        """Return a constant."""
        return f"tf.constant({name})"

    def array(self, name: str, dtype: str) -> str:
        """Return a copy."""
        return f"{name}.numpy()"

    def to_numpy(self, tensor: Any) -> Array:
        """Return a copy."""
        return np.array(super().to_numpy(tensor))

    def seed(self, seed: int) -> None:
        """Seed stochastic pooling."""
        super().seed(seed)
        tf.random.set_seed(seed)

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Return the lines of a tape."""
        if isinstance(layer, Conv) and self._kernels and max(layer.groups, *layer.dilation) > 1:
            if layer.rank == 2 and is_explicit(layer):
                raise Unsupported("tf.nn.conv2d has no such gradient on a CPU, with pads")
            if dtype != "float32":
                raise Unsupported("tf.nn has such a gradient on a CPU in float32 alone")
        learned = "*layer.trainable_variables" if made.layers and layer.has_weights else ""
        held = ", ".join(filter(None, [*made.parameters, learned]))
        return [
            f"t, held = {x}, [{held}]",
            "with tf.GradientTape() as tape:",
            "    tape.watch([t, *held])" if made.parameters else "    tape.watch(t)",
            f"    y = {made.call('t')}",
            f"found = tape.gradient(y, [t, *held], {upstream}, 'zero')",
            'gradients = {name: g.numpy() for name, g in zip(["input", *weights], found)}',
        ]

    def counted(self, layer: Layer, made: Definition) -> list[str]:
        """Return Keras's count."""
        if self.mode:
            raise Unsupported("the functions of TensorFlow hold no weights")
        return super().counted(layer, made)

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return the answer of Keras's layers, or the shape of the traced function."""
        if self.mode:
            sizes = self.axes.native_shapes(layer).items()
            given = ", ".join(
                ["tf.TensorSpec(shape)", *(f"tf.TensorSpec({size})" for _, size in sizes)]
            )
            traced = f"tf.function({made.name}, autograph=False).get_concrete_function({given})"
            return [*made.lines, f"shape = tuple({traced}.structured_outputs.shape)"]
        return super().stated(layer, made)

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Run what is shown. Raises ``ValueError`` for a shape that is not known in full."""
        stated = super().output_shape(layer, shape)
        if None in stated:
            raise ValueError(f"TensorFlow states only {stated}")
        return stated
