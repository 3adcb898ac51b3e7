"""LiteRT: the functions of TensorFlow, converted to its models, one per layer."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import ai_edge_litert
from ai_edge_litert import interpreter  # noqa: F401 - imported once, before a worker is forked

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Tensor
from cnnformance.adapters.compositions import LITERT, rounds_down
from cnnformance.adapters.padding import word
from cnnformance.adapters.table import Definition, Held, Table
from cnnformance.adapters.tensorflow_functions import function
from cnnformance.spec.layers import Conv, Flatten, Layer, Pool

IMPORTS = """\
import ai_edge_litert
import tensorflow as tf
from ai_edge_litert import interpreter as litert
"""
KERNELS = {
    "": "AUTO",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


class LiteRt(Table):
    """LiteRT with the kernels of XNNPACK, on a model whose input is resized.

    Modes:
        builtin: LiteRT's own kernels.
        reference: its reference kernels.
    """

    devices = ("cpu",)
    dense_layout = "io"
    dtypes = ("float32", "int8", "uint8", "int32", "int64")
    modes = ("builtin", "reference")
    imports = IMPORTS
    printed = 'print("LiteRT", ai_edge_litert.__version__, "TensorFlow", tf.__version__)'
    compositions = LITERT

    def version(self) -> str:
        """Return LiteRT's version."""
        return str(ai_edge_litert.__version__)

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers are quantised numbers in all that computes."""
        return dtype in self.dtypes and (dtype == "float32" or isinstance(layer, Flatten))

    def native(self, layer: Layer, x: Tensor) -> Call:
        """Return the function of TensorFlow that is converted."""
        rounds_down(layer)
        if isinstance(layer, Pool) and layer.rank == 3:
            raise Unsupported("LiteRT has no operator that pools three axes")
        if isinstance(layer, Pool):
            word(layer, "LiteRT")
        if isinstance(layer, Conv) and layer.rank == 3 and max(layer.groups, *layer.dilation) > 1:
            raise Unsupported("LiteRT's CONV_3D has neither groups nor dilation")
        return function(layer, x)

    def define(self, layer: Layer, x: Tensor, *, held: Held = True) -> Definition:
        """Return the model, and the function that resizes its input and runs it."""
        made = super().define(layer, x, held=held)
        rank = getattr(layer, "rank", 0)
        sizes: list[Any] = list(x.shape)
        if rank and rank == len(sizes) - 2:
            sizes[:-1] = [None] * (rank + 1)
        return Definition(
            [
                *made.lines,
                f"spec = tf.TensorSpec({sizes}, tf.{x.dtype})",
                f"traced = tf.function(lambda x: {made.call('x')}, autograph=False)",
                "traced = traced.get_concrete_function(spec)",
                "converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])",
                "model = litert.Interpreter(",
                "    model_content=converter.convert(),",
                "    num_threads=1,",
                f"    experimental_op_resolver_type=litert.OpResolverType.{KERNELS[self.mode]},",
                ")",
                "",
                "def run(x):",
                '    place = model.get_input_details()[0]["index"]',
                "    model.resize_tensor_input(place, x.shape, strict=True)",
                "    model.allocate_tensors()",
                "    model.set_tensor(place, x)",
                "    model.invoke()",
                '    return model.get_tensor(model.get_output_details()[0]["index"])',
                "",
            ],
            "run",
            (),
            {},
        )

    def tensor(self, name: str, array: Array) -> str:
        """Return the array in C order."""
        return f"np.ascontiguousarray({name})"
