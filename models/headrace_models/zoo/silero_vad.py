"""silero-vad: step of audio -> probability of speech.

The published ONNX file, rearranged for many streams.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from headrace_models.fetch import Package, fetch, read_member
from headrace_models.publishing import ONNX_FILE, Arrays, Draft

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["EDITION", "PACKAGES", "recipe"]

PACKAGE = Package(
    registry="PyPI",
    name="silero-vad",
    version="6.2.3",
    file="silero_vad-6.2.3-py3-none-any.whl",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
)
PACKAGES = (PACKAGE,)
# Raise it when the recipe makes something else: older builds are then replaced.
EDITION = 3
# Not the neighbouring silero_vad_op18_ifless.onnx with its simpler graph: that one answers
# differently at 8 kHz.
_MEMBER = "silero_vad/data/silero_vad.onnx"

# Samples a step: those of the step before, and new ones.
_CONTEXT_8_KHZ, _HOP_8_KHZ = 32, 256
_CONTEXT_16_KHZ, _HOP_16_KHZ = 64, 512
_WIDTH_8_KHZ = _CONTEXT_8_KHZ + _HOP_8_KHZ
_WIDTH_16_KHZ = _CONTEXT_16_KHZ + _HOP_16_KHZ
_STATE = [2, 128]


def recipe(folder: Path, cache: Path) -> Draft:
    """Write the weights into `folder`."""
    import onnx  # a build-time dependency

    model = onnx.load_from_string(read_member(fetch(PACKAGE, cache), _MEMBER))
    _derive_rate_from_width(model.graph)
    _put_rows_first(model.graph)
    _declare_shapes(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / ONNX_FILE)
    return Draft(_document(), _golden_inputs())


def _derive_rate_from_width(graph: "GraphProto") -> None:
    """Replace the input `sr` by its only right value: 8000 if `input` is 288 wide, otherwise 16000.

    A batch then has one rate because its rows have one width, and no caller can give a wrong rate.
    """
    # Only builds have onnx.
    from onnx import helper, numpy_helper

    graph.input.remove(next(i for i in graph.input if i.name == "sr"))
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1], np.int64), "headrace.second_axis"),
            numpy_helper.from_array(np.array([_WIDTH_8_KHZ], np.int64), "headrace.width_8_khz"),
            numpy_helper.from_array(np.array([8000], np.int64), "headrace.rate_8_khz"),
            numpy_helper.from_array(np.array([16000], np.int64), "headrace.rate_16_khz"),
        ]
    )
    nodes = [
        helper.make_node("Shape", ["input"], ["headrace.shape"]),
        helper.make_node("Gather", ["headrace.shape", "headrace.second_axis"], ["headrace.width"]),
        helper.make_node(
            "Equal", ["headrace.width", "headrace.width_8_khz"], ["headrace.is_8_khz"]
        ),
        helper.make_node(
            "Where", ["headrace.is_8_khz", "headrace.rate_8_khz", "headrace.rate_16_khz"], ["sr"]
        ),
    ]
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)


def _put_rows_first(graph: "GraphProto") -> None:
    """Make `state` and `stateN` [rows, 2, 128] outside; the inner network keeps [2, rows, 128]."""
    # Only builds have onnx.
    from onnx import helper

    inner = {"state": "headrace.state", "stateN": "headrace.stateN"}
    _rename(graph, inner)
    graph.node.insert(0, helper.make_node("Transpose", ["state"], [inner["state"]], perm=[1, 0, 2]))
    graph.node.append(helper.make_node("Transpose", [inner["stateN"]], ["stateN"], perm=[1, 0, 2]))


def _declare_shapes(graph: "GraphProto") -> None:
    """Declare the outer shapes.

    Those inside branches go: there the file has 0 for unknown sizes.
    """
    # Only builds have onnx.
    from onnx import TensorProto, helper

    shapes: dict[str, tuple[str | int, ...]] = {
        "input": ("rows", "width"),
        "state": ("rows", *_STATE),
        "output": ("rows", 1),
        "stateN": ("rows", *_STATE),
    }
    for value in (*graph.input, *graph.output):
        value.CopyFrom(
            helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shapes[value.name])
        )
    for branch in _branches(graph):
        for value in branch.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")


def _branches(graph: "GraphProto") -> Iterator["GraphProto"]:
    """The graphs inside a graph's conditions, at every depth."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
                yield from _branches(attribute.g)


def _rename(graph: "GraphProto", names: dict[str, str]) -> None:
    """Rename values wherever nodes use them, in branches as well."""
    for here in (graph, *_branches(graph)):
        for node in here.node:
            for values in (node.input, node.output):
                values[:] = [names.get(value, value) for value in values]


def _golden_inputs() -> Arrays:
    """Two rows in mid-stream at 16 kHz: a voice's hum at 120 and at 210 Hz, and any state."""
    time_s = np.arange(_WIDTH_16_KHZ) / 16000
    rows = [_hum(pitch_hz, time_s) for pitch_hz in (120, 210)]
    state = np.random.default_rng(0).normal(0, 0.1, (len(rows), *_STATE))
    return {"input": np.stack(rows).astype(np.float32), "state": state.astype(np.float32)}


def _hum(pitch_hz: float, time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    harmonics = [np.sin(2 * np.pi * pitch_hz * n * time_s) / n for n in range(1, 12)]
    return np.asarray(0.2 * np.sum(harmonics, axis=0))


def _document() -> dict[str, object]:
    return {
        "name": "silero-vad",
        "version": "1",
        "edition": EDITION,
        "family": "lstm",
        "task": "none",
        "description": "Silero VAD: how likely it is that somebody speaks in this step of an audio "
        "stream.",
        "licence": "MIT",
        "source": str(PACKAGE),
        "backend": "onnx",
        "weights": {"onnx": ONNX_FILE},
        "inputs": [
            {
                "name": "input",
                "datatype": "FP32",
                "shape": [-1],
                "max_length": _WIDTH_16_KHZ,
                "lengths": [_WIDTH_8_KHZ, _WIDTH_16_KHZ],
            },
            {"name": "state", "datatype": "FP32", "shape": _STATE},
        ],
        "outputs": [
            {"name": "output", "datatype": "FP32", "shape": [1]},
            {"name": "stateN", "datatype": "FP32", "shape": _STATE},
        ],
        "state": [{"input": "state", "output": "stateN"}],
        "preprocess": {
            "kind": "audio",
            "output": "input",
            "score": "output",
            "rates": [
                {"rate_hz": 16000, "context": _CONTEXT_16_KHZ, "hop": _HOP_16_KHZ},
                {"rate_hz": 8000, "context": _CONTEXT_8_KHZ, "hop": _HOP_8_KHZ},
            ],
        },
        "batching": {"max_rows": 64},
        # A stream is a few KiB, and a call centre has many.
        "sequence": {"max_open": 2000},
    }
