"""A torch network -> the two weight files that a version holds."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from headrace_models.publishing import ONNX_FILE

__all__ = ["WEIGHTS", "export"]

TORCH_FILE = "model.safetensors"
WEIGHTS = {"onnx": ONNX_FILE, "torch": TORCH_FILE}
_OPSET = 17


def export(
    network: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    folder: Path,
    *,
    with_length: bool = False,
) -> None:
    """Write `model.onnx` and `model.safetensors` into `folder`.

    Axis 0 of every input and output is the row axis; `with_length` makes axis 1 of every input
    variable as well.
    """
    weights = save({name: value.contiguous() for name, value in network.state_dict().items()})
    (folder / TORCH_FILE).write_bytes(weights)
    axes = {name: {0: "rows", 1: "length"} if with_length else {0: "rows"} for name in inputs}
    axes |= {name: {0: "rows"} for name in outputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            example,
            folder / ONNX_FILE,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=_OPSET,
            # The newer exporter needs another package, and ONNX Runtime fuses its patterns less
            # well.
            dynamo=False,
        )
