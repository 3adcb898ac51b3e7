"""Keras: its layers on PyTorch, JAX or NumPy. On TensorFlow they are those of ``tensorflow``."""

from __future__ import annotations

import importlib
import os

os.environ["KERAS_BACKEND"] = (os.environ.get("CNNFORMANCE_MODE") or "torch").replace(
    "saved", "torch"
)

import keras  # type: ignore[import-untyped]  # it ships no types

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Tensor
from cnnformance.adapters.compositions import KERAS
from cnnformance.adapters.keras_layers import KerasLayers
from cnnformance.adapters.table import Definition, Held, bits, from_bits
from cnnformance.spec.layers import AveragePool, Flatten, Layer, LpPool, ReLU

BACKEND = os.environ["KERAS_BACKEND"]
IMPORTS = f"""\
import os
os.environ["KERAS_BACKEND"] = {BACKEND!r}
import keras
"""
WIDE = 'import jax\nfrom jax import numpy as jnp\n\njax.config.update("jax_enable_x64", True)\n'
FRAMEWORK = {
    "torch": "import torch\n\ntorch.set_num_threads(1)\n",
    "jax": WIDE,
    "numpy": WIDE,  # whose poolings and convolutions are JAX's
}


class Keras(KerasLayers):
    """Keras on PyTorch by default.

    Modes:
        jax, numpy: on those frameworks; NumPy has no gradients, and pools by JAX.
        saved: a model of the layer on PyTorch, saved to a file and loaded again.
    """

    devices = ("cpu",)
    dtypes = ("float32", "float64", "float16", "bfloat16", "uint8", "int32", "int64")
    modes = ("jax", "numpy", "saved")
    compositions = KERAS

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """See that Keras was imported for this mode: it is once in a process."""
        super().__init__(mode, device)
        self._on = mode if mode in ("jax", "numpy") else "torch"
        if keras.backend.backend() != self._on:
            raise Unsupported(f"Keras was imported with the backend {keras.backend.backend()!r}")
        self.imports = (
            IMPORTS + FRAMEWORK[self._on] + ("import tempfile\n" if mode == "saved" else "")
        )
        said = "" if self._on == "numpy" else f', "{self._on}", {self._on}.__version__'
        self.printed = f'print("Keras", keras.__version__{said})'

    def version(self) -> str:
        """Return the versions of Keras and of what it runs on."""
        return f"{keras.__version__}, {self._on} {importlib.import_module(self._on).__version__}"

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers pass where nothing is computed; Keras on NumPy casts 64 bits to 32."""
        if dtype not in self.dtypes or (dtype.endswith("64") and self._on == "numpy"):
            return False
        if isinstance(layer, AveragePool | LpPool) and layer.rank == 3 and self._on == "torch":
            return dtype in ("float32", "float64")  # PyTorch has no other kernels
        return "float" in dtype or isinstance(layer, ReLU | Flatten)

    def define(self, layer: Layer, x: Tensor, *, held: Held = True) -> Definition:
        """Return the layer or, in the mode ``saved``, a model of it that was loaded."""
        made = super().define(layer, x, held=held)
        if not held or self.mode != "saved":
            return made
        return Definition(
            [
                *made.lines,
                f"given = keras.Input(batch_shape={(None, *x.shape[1:])}, dtype={x.dtype!r})",
                "with tempfile.TemporaryDirectory() as folder:",
                f'    keras.Model(given, {made.call("given")}).save(f"{{folder}}/layer.keras")',
                '    layer = keras.saving.load_model(f"{folder}/layer.keras")',
            ],
            "layer",
            (),
            made.layers,
        )

    def tensor(self, name: str, array: Array) -> str:
        """Return a tensor of the framework."""
        if self._on == "torch":
            tensor = f"torch.from_numpy({bits(f'np.array({name})', array.dtype.name)})"
            return f"{tensor}.view(torch.bfloat16)" if array.dtype.name == "bfloat16" else tensor
        return f"jnp.array({name})" if self._on == "jax" else name

    def array(self, name: str, dtype: str) -> str:
        """Return an array."""
        if self._on != "torch":
            return f"np.asarray({name})"
        if dtype == "bfloat16":
            return from_bits(f"{name}.detach().view(torch.int16).numpy()", dtype)
        return f"{name}.detach().numpy()"

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Return what the framework finds, of the variables that Keras holds for it."""
        learned = "layer.trainable_variables" if layer.has_weights else "[]"
        names = 'gradients = dict(zip(["input", *weights], arrays))'
        if self._on == "torch":
            return [
                f"held = [{x}.requires_grad_(), *(v.value for v in {learned})]",
                f"found = torch.autograd.grad({made.call('held[0]')}, held, {upstream})",
                f"arrays = [{self.array('gradient', dtype)} for gradient in found]",
                names,
            ]
        if self._on == "jax":
            body = "layer.stateless_call(held, [], x)[0]" if layer.has_weights else made.call("x")
            return [
                f"held = [v.value for v in {learned}]",
                f"y, pull = jax.vjp(lambda x, held: {body}, {x}, held)",
                f"of_x, of_held = pull({upstream})",
                "arrays = map(np.asarray, [of_x, *of_held])",
                names,
            ]
        raise Unsupported("Keras has no gradients on NumPy")
