"""TensorFlow.js: a command in Node, beside this file.

Its packages are those that Node finds in the folder in which the suite is run; ``npm.remedy`` is
the command that installs them there.
"""

from __future__ import annotations

from pathlib import Path

from cnnformance.adapters.foreign import Foreign


class TensorFlowJs(Foreign):
    """TensorFlow.js on the CPU: its kernels in JavaScript.

    Modes:
        wasm: its kernels in WebAssembly.
    """

    command = ("node", str(Path(__file__).with_suffix(".mjs")))
    modes = ("wasm",)
    dtypes = ("float32", "int32")
