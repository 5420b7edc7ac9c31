"""Added models that are batched, and the reasons given for those that are not."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.models.graphs import FLOAT, FLOAT_X, FLOAT_Y, INT64, Value, node, save

from headrace_models.add import add
from headrace_models.repository import ModelVersion, read_version

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(3, 3)).astype(np.float32)
GATES = {
    name: RANDOM.normal(size=shape).astype(np.float32)
    for name, shape in (("w", (1, 8, 3)), ("u", (1, 8, 2)))
}
AT_0, AT_1 = np.array([0]), np.array([1])


@dataclass(frozen=True)
class Graph:
    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[Value] = (FLOAT_X,)
    outputs: Sequence[Value] = (FLOAT_Y,)
    constants: Mapping[str, Any] = field(default_factory=dict)


def added(folder: Path, graph: Graph) -> tuple[ModelVersion, list[str]]:
    """The version, and the messages while it was added."""
    file = save(folder / "given.onnx", graph.nodes, graph.inputs, graph.outputs, **graph.constants)
    said: list[str] = []
    version = read_version(add(file, "mine", folder / "repository", tell=said.append))
    # A busy machine has it say that it takes time.
    return version, [line for line in said if "served" in line]


def lstm(outputs: list[str], *more: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [helper.make_node("LSTM", ["t", "w", "u"], outputs, hidden_size=2), *more]


INDEPENDENT = {
    "a dense layer": Graph([node("MatMul", "x w")], constants={"w": WEIGHTS}),
    "softmax over classes": Graph([node("Softmax", axis=1)]),
    "a logarithm": Graph([node("Log")]),
    "an LSTM with rows first": Graph(
        [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            *lstm(["", "last"], node("Squeeze", "last zero")),
        ],
        [("x", FLOAT, ["n", "time", 3])],
        [("y", FLOAT, ["n", 2])],
        GATES | {"zero": AT_0},
    ),
    "a window of just 50": Graph(
        [node("MatMul", "x w")],
        [("x", FLOAT, ["n", "samples"])],
        [("y", FLOAT, ["n", 3])],
        {"w": RANDOM.normal(size=(50, 3)).astype(np.float32)},
    ),
    "a window of at least 400": Graph(
        [
            node("Unsqueeze", "x one", "c"),
            node("Conv", "c w", "d"),
            node("ReduceMax", "d", "y", axes=[2], keepdims=0),
        ],
        [("x", FLOAT, ["n", "samples"])],
        [("y", FLOAT, ["n", 1])],
        {"w": RANDOM.normal(size=(1, 1, 400)).astype(np.float32), "one": AT_1},
    ),
    "ids of a small vocabulary": Graph(
        [node("Gather", "w x")], [("x", INT64, ["n"])], [("y", FLOAT, ["n", 3])], {"w": WEIGHTS[:2]}
    ),
}


@pytest.mark.parametrize("what", INDEPENDENT)
def test_rows_that_are_independent_share_batches(tmp_path: Path, what: str) -> None:
    version, said = added(tmp_path, INDEPENDENT[what])
    assert (version.spec.is_batched, version.spec.batching.rows, said) == (True, None, [])


def test_a_length_that_the_weights_demand_is_written_though_the_file_says_any(
    tmp_path: Path,
) -> None:
    assert added(tmp_path, INDEPENDENT["a window of just 50"])[0].spec.inputs[0].shape == (50,)


ONE: Value = ("s", FLOAT, [1])
# What keeps a model from being batched, the sentence, and the whole shapes of its inputs and
# outputs.
UNBATCHED: dict[str, tuple[Graph, str, list[tuple[int, ...]]]] = {
    "softmax over rows": (
        Graph([node("Softmax", axis=0)]),
        r'output "y" of a row depends on the rows beside it \(differs by 0\.\d+\)',
        [(-1, 3), (-1, 3)],
    ),
    "a running sum over rows": (
        Graph([node("CumSum", "x zero")], constants={"zero": np.int64(0)}),
        r'output "y" of a row depends on the rows beside it \(differs by',
        [(-1, 3), (-1, 3)],
    ),
    "a running sum from the last row": (
        Graph([node("CumSum", "x zero", reverse=1)], constants={"zero": np.int64(0)}),
        r'output "y" of a row depends on the rows beside it \(differs by',
        [(-1, 3), (-1, 3)],
    ),
    "statistics of the batch": (
        Graph([node("ReduceMean", "x", "m", axes=[0]), node("Sub", "x m")]),
        r'output "y" of a row depends on the rows beside it \(differs by',
        [(-1, 3), (-1, 3)],
    ),
    "a thousandth of the mean row": (
        Graph(
            [node("ReduceMean", "x", "m", axes=[0]), node("Mul", "m few", "k"), node("Add", "x k")],
            constants={"few": np.float32(0.001)},
        ),
        r'output "y" of a row depends on the rows beside it \(differs by',
        [(-1, 3), (-1, 3)],
    ),
    "dynamic quantisation": (
        Graph([node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z")]),
        r'output "y" of a row depends on the rows beside it \(differs by',
        [(-1, 3), (-1, 3)],
    ),
    "an LSTM with time first": (
        Graph(
            [node("Identity", "x", "t"), *lstm(["all"], node("Squeeze", "all one"))],
            [("x", FLOAT, ["time", 1, 3])],
            [("y", FLOAT, ["time", 1, 2])],
            GATES | {"one": AT_1},
        ),
        r'output "y" of a row depends on the rows beside it \(differs by',
        [(-1, 1, 3), (-1, 1, 2)],
    ),
    "pairs of rows": (
        Graph(
            [node("Transpose", "d", "t", perm=[1, 0]), node("MatMul", "q t")],
            [("q", FLOAT, ["n", 4]), ("d", FLOAT, ["m", 4])],
            [("y", FLOAT, ["n", "m"])],
        ),
        r'the shape of output "y" depends on the rows beside it',
        [(-1, 4), (-1, 4), (-1, -1)],
    ),
    "a number of rows that depends on them": (
        Graph(
            [
                node("ReduceMax", "x", "most", axes=[1], keepdims=0),
                node("LessOrEqual", "most half", "is_low"),
                node("Compress", "x is_low", axis=0),
            ],
            outputs=[("y", FLOAT, ["k", 3])],
            constants={"half": np.float32(0.5)},
        ),
        r'output "y" has no rows: its shape is \[0, 3\] for one row in',
        [(-1, 3), (-1, 3)],
    ),
    "a scalar input": (
        Graph([node("Mul", "x s")], [FLOAT_X, ("s", FLOAT, [])]),
        'input "s" is a scalar',
        [(-1, 3), (), (-1, 3)],
    ),
    "a setting of one element": (
        Graph([node("Mul", "x s")], [FLOAT_X, ONE]),
        'input "s" has a first axis of 1, not one of any size for rows',
        [(-1, 3), (1,), (-1, 3)],
    ),
    "a scalar output": (
        Graph([node("ReduceSum", keepdims=0)], outputs=[("y", FLOAT, [])]),
        r'output "y" has no rows: its shape is \[\] for one row in',
        [(-1, 3), ()],
    ),
    "no rows": (
        Graph([node("Relu")], [("x", FLOAT, [3, 8, 8])], [("y", FLOAT, [3, 8, 8])]),
        'input "x" has a first axis of 3, not one of any size for rows',
        [(3, 8, 8), (3, 8, 8)],
    ),
    "a state whose rows are on the second axis": (
        Graph(
            [
                node("Unsqueeze", "x zero", "z"),
                node("Add", "z h", "h_next"),
                node("ReduceSum", "h_next zero", "y", keepdims=0),
            ],
            [FLOAT_X, ("h", FLOAT, [2, "m", 3])],
            [FLOAT_Y, ("h_next", FLOAT, [2, "m", 3])],
            {"zero": AT_0},
        ),
        'input "h" has a first axis of 2, not one of any size for rows',
        [(-1, 3), (2, -1, 3), (-1, 3), (2, -1, 3)],
    ),
    "nothing but zeros": (
        Graph(
            [node("Gather", "w x")],
            [("x", INT64, ["n"])],
            [("y", FLOAT, ["n", 3])],
            {"w": WEIGHTS[:1]},
        ),
        "it accepts nothing but zeros, so that its rows cannot be compared",
        [(-1,), (-1, 3)],
    ),
    "a sample rate": (
        Graph(
            [node("Cast", "rate", "r", to=FLOAT), node("Div", "x r")],
            [FLOAT_X, ("rate", INT64, [])],
        ),
        'input "rate" is a scalar',
        [(-1, 3), (), (-1, 3)],
    ),
}


@pytest.mark.parametrize("what", UNBATCHED)
def test_other_models_are_served_one_request_at_a_time_and_it_is_said_why(
    tmp_path: Path, what: str
) -> None:
    graph, reason, shapes = UNBATCHED[what]
    version, said = added(tmp_path, graph)
    assert (version.spec.is_batched, version.spec.batching.rows) == (False, "none")
    assert [
        tensor.whole_shape for tensor in (*version.spec.inputs, *version.spec.outputs)
    ] == shapes
    assert len(said) == 1
    assert said[0].endswith("; served one request at a time")
    assert re.match(reason, said[0])


@pytest.mark.parametrize(
    ("kind", "types", "tolerance"),
    [
        ("QuantizeLinear", onnx.TensorProto.FLOAT, 1e-2),
        ("Relu", onnx.TensorProto.FLOAT16, 1e-2),
        ("Relu", FLOAT, 1e-5),
    ],
)
def test_weights_of_few_bits_may_round_otherwise_beside_others(
    tmp_path: Path, kind: str, types: int, tolerance: float
) -> None:
    nodes = [node(kind)]
    if kind == "QuantizeLinear":
        nodes = [node(kind, "x s", "q"), node("DequantizeLinear", "q s")]
    graph = Graph(nodes, [("x", types, ["n", 3])], [("y", types, ["n", 3])], {"s": np.float32(0.1)})
    version, _ = added(tmp_path, graph)
    assert (version.spec.is_batched, version.spec.batching.tolerance) == (True, tolerance)


BY_ROW = [
    lambda at, to: [node("Relu", at, to)],
    lambda at, to: [node("Tanh", at, to)],
    lambda at, to: [node("MatMul", f"{at} w", to)],
    lambda at, to: [node("Softmax", at, to, axis=1)],
    lambda at, to: [node("Add", f"{at} x", to)],
    lambda at, to: [node("Neg", at, to)],
]
OVER_ROWS = [
    lambda at, to: [node("Softmax", at, to, axis=0)],
    lambda at, to: [node("CumSum", f"{at} first", to)],
    lambda at, to: [node("ReduceMax", at, f"{to}m", axes=[0]), node("Sub", f"{at} {to}m", to)],
    lambda at, to: [node("ReduceMean", at, f"{to}m", axes=[0]), node("Add", f"{at} {to}m", to)],
    lambda at, to: [
        node("DynamicQuantizeLinear", at, f"{to}q {to}s {to}z"),
        node("DequantizeLinear", f"{to}q {to}s {to}z", to),
    ],
    lambda at, to: [node("LpNormalization", at, to, axis=0)],
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*BY_ROW, *OVER_ROWS]), min_size=1, max_size=5))
@pytest.mark.slow("searches many generated cases")
def test_a_random_graph_is_batched_only_if_its_rows_do_not_interact(steps: list[Any]) -> None:
    places = ["x", *(f"v{n}" for n in range(1, len(steps))), "y"]
    nodes = [made for n, step in enumerate(steps) for made in step(places[n], places[n + 1])]
    with TemporaryDirectory() as folder:
        version, _ = added(
            Path(folder), Graph(nodes, constants={"w": WEIGHTS, "first": np.int64(0)})
        )
        session = onnxruntime.InferenceSession(
            version.path("model.onnx"), providers=["CPUExecutionProvider"]
        )
    x = np.random.default_rng(7).normal(size=(6, 3)).astype(np.float32)
    alone = np.concatenate([session.run(None, {"x": x[n : n + 1]})[0] for n in range(6)])
    interacts = not np.allclose(
        session.run(None, {"x": x})[0], alone, rtol=0, atol=1e-4 * np.abs(alone).max()
    )
    assert not (version.spec.is_batched and interacts)
    if all(step in BY_ROW for step in steps):
        assert version.spec.is_batched
