"""Writes the benchmark's model, small enough that the server is what is measured."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

__all__ = ["write_cnn"]

# x [n, 1, 28, 28] grey images -> y [n, 10] shares of ten classes.
_GRAPH = """
<ir_version: 9, opset_import: ["": 17]>
cnn (float[N,1,28,28] x) => (float[N,10] y) {
    seen1 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, conv1, bias1)
    bent1 = Relu (seen1)
    half1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (bent1)
    seen2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (half1, conv2, bias2)
    bent2 = Relu (seen2)
    half2 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (bent2)
    flat = Flatten (half2)
    logits = Gemm (flat, dense, bias3)
    y = Softmax <axis = 1> (logits)
}
"""
_SHAPES = {
    "conv1": (16, 1, 3, 3),
    "bias1": (16,),
    "conv2": (32, 16, 3, 3),
    "bias2": (32,),
    "dense": (32 * 7 * 7, 10),
    "bias3": (10,),
}


def write_cnn(file: Path) -> None:
    """Write the network with seeded random weights: it tells images apart, without meaning."""
    model = parser.parse_model(_GRAPH)
    random = np.random.default_rng(0)
    for name, shape in _SHAPES.items():
        weights = random.normal(scale=0.1, size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
