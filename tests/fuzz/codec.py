"""The codec that fuzz targets read with: its model takes an input of each kind of datatype."""

from typing import Any

from loadtests.support.model_specs import model_spec, tensor_spec

from headrace.gateway.wire.infer import Codec
from headrace_models.spec import StateSpec

__all__ = ["codec"]

_INPUTS: list[dict[str, Any]] = [
    {"name": "f", "datatype": "FP32", "shape": [-1]},
    {"name": "h", "datatype": "FP16", "shape": [2]},
    {"name": "i", "datatype": "INT64", "shape": []},
    {"name": "u", "datatype": "UINT8", "shape": [-1, 2], "max_length": 8},
    {"name": "b", "datatype": "BOOL", "shape": [1]},
    {"name": "t", "datatype": "BYTES", "shape": [-1]},
]


def codec(*, finite: bool = False) -> Codec:
    """All inputs but `f` are states, so that a request may have any of them.

    No model has such states, which the copy does not check.
    """
    spec = model_spec(finite=finite, inputs=_INPUTS, outputs=[tensor_spec("y", shape=[2])])
    states = tuple(StateSpec(input=tensor["name"], output="y") for tensor in _INPUTS[1:])
    return Codec(spec.model_copy(update={"state": states}))
