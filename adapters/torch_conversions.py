"""What PyTorch's modules are converted to: programs and models, run in their place."""

from __future__ import annotations

from collections.abc import Mapping

from cnnformance.adapters.calls import Tensor
from cnnformance.adapters.table import Definition

ONNX_IMPORTS = "import onnxruntime\nimport torch\nfrom torch import nn\n\ntorch.set_num_threads(1)"
ONNX_PRINTED = 'print("PyTorch", torch.__version__, "ONNX Runtime", onnxruntime.__version__)'
CONVERTED: Mapping[str, list[str]] = {
    "export": ["converted = torch.export.export(Model(), (example,)).module()"],
    "onnx": [
        "model = torch.onnx.export(Model(), (example,), dynamo=True, verbose=False).model_proto",
        "options = onnxruntime.SessionOptions()",
        "options.intra_op_num_threads = options.inter_op_num_threads = 1",
        "session = onnxruntime.InferenceSession(model.SerializeToString(), options)",
        "name = session.get_inputs()[0].name",
        "converted = lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])",
    ],
}
"""What the modes that convert a model make of it, and of an example of its input."""


def converted(made: Definition, x: Tensor, lines: list[str]) -> Definition:
    """Return what lines make of a module for an input of this shape and dtype."""
    return Definition(
        [
            *made.lines,
            "class Model(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            f"        self.held = nn.ModuleList([{', '.join(made.layers)}])",
            "",
            "    def forward(self, x):",
            f"        return {made.call('x')}",
            "",
            f"example = torch.zeros({x.shape}, dtype=torch.{x.dtype})",
            *lines,
        ],
        "converted",
        (),
        made.layers,
    )
