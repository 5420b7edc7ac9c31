"""Small ONNX models, made by the tests: of every numeric datatype, with an axis of any length, with
a state.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from headrace_models.add import add
from headrace_models.publishing import ONNX_FILE, Draft, write_version
from headrace_models.repository import SPEC_FILE

__all__ = [
    "DATATYPES",
    "make_accumulator",
    "make_finite",
    "make_listener",
    "make_reader",
    "make_table",
    "make_typed",
    "make_wide",
]

DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
}


def make_typed(folder: Path, repository: Path, name: str = "typed") -> Path:
    """A model `typed` that gives back what it takes: `bool` [n, 2] as `bool_out`, and so on for
    each datatype.
    """
    kinds = {datatype.lower(): kind for datatype, kind in DATATYPES.items()}
    nodes = [helper.make_node("Identity", [each], [f"{each}_out"]) for each in kinds]
    inputs = [helper.make_tensor_value_info(each, kind, ["n", 2]) for each, kind in kinds.items()]
    outputs = [
        helper.make_tensor_value_info(f"{each}_out", kind, ["n", 2]) for each, kind in kinds.items()
    ]
    return _add(helper.make_graph(nodes, name, inputs, outputs), folder, repository)


def make_finite(folder: Path, repository: Path) -> Path:
    """The same as a model `finite`, which refuses NaN and infinity."""
    version = make_typed(folder, repository, "finite")
    spec = version / SPEC_FILE
    spec.write_text("finite = true\n" + spec.read_text(encoding="utf-8"), encoding="utf-8")
    return version


def make_wide(folder: Path, repository: Path) -> Path:
    """A model `wide` from `x` FP32 [n, any] to two outputs of its shape: `twice` and `square`."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Mul", ["x", "x"], ["square"]),
    ]
    x, *outputs = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", "m"])
        for n in ("x", "twice", "square")
    )
    return _add(helper.make_graph(nodes, "wide", [x], outputs), folder, repository)


def make_table(folder: Path, repository: Path) -> Path:
    """A model `table` of the columns `word` BYTES [n, 1] and `age` FP32 [n, 1], as trees of columns
    are exported.

    `twice` FP32 [n, 1] is the age, `pair` BYTES [n, 2] and `pair_bytes` the word twice, `plain`
    BYTES [n] the word.
    """
    word, twice = TensorProto.STRING, TensorProto.FLOAT
    nodes = [
        helper.make_node("Add", ["age", "age"], ["twice"]),
        helper.make_node("Concat", ["word", "word"], ["pair"], axis=1),
        helper.make_node("Identity", ["pair"], ["pair_bytes"]),
        helper.make_node("Squeeze", ["word", "axis"], ["plain"]),
    ]
    inputs = [
        helper.make_tensor_value_info(n, kind, ["n", 1])
        for n, kind in (("word", word), ("age", twice))
    ]
    outputs = [
        helper.make_tensor_value_info("twice", twice, ["n", 1]),
        helper.make_tensor_value_info("pair", word, ["n", 2]),
        helper.make_tensor_value_info("pair_bytes", word, ["n", 2]),
        helper.make_tensor_value_info("plain", word, ["n"]),
    ]
    axis = numpy_helper.from_array(np.array([1]), "axis")
    return _add(helper.make_graph(nodes, "table", inputs, outputs, [axis]), folder, repository)


def make_accumulator(folder: Path, repository: Path, version: str = "1", **more: object) -> Path:
    """A model `accumulator`: `total` FP32 [n, 2] is `x` + `state`, and is the next state; the
    folder of its version.
    """
    nodes = [helper.make_node("Add", ["x", "state"], ["total"])]
    x, state, total = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2])
        for n in ("x", "state", "total")
    )
    graph = helper.make_graph(nodes, "accumulator", [x, state], [total])
    tensors = [{"name": name, "datatype": "FP32", "shape": [2]} for name in ("x", "state", "total")]
    document = {
        "name": "accumulator",
        "version": version,
        "weights": {"onnx": ONNX_FILE},
        "inputs": tensors[:2],
        "outputs": tensors[2:],
        "state": [{"input": "state", "output": "total"}],
        **more,
    }
    golden = {"x": np.array([[1, 2]], np.float32), "state": np.array([[3, 4]], np.float32)}

    def make(making: Path) -> Draft:
        _save(graph, making / ONNX_FILE)
        return Draft(document, golden)

    return write_version(repository, "accumulator", version, make)


def make_listener(folder: Path, repository: Path) -> Path:
    """A model `listener` of audio: `loudness` is the largest sample of a frame, and the state the
    sum of those.

    A frame has 4 new samples at 16 kHz, 2 at 8 kHz, behind half as many old ones.
    """
    nodes = [
        helper.make_node("Abs", ["frame"], ["sizes"]),
        helper.make_node("ReduceMax", ["sizes"], ["loudness"], axes=[1], keepdims=1),
        helper.make_node("Add", ["loudness", "sum"], ["sumN"]),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.FLOAT, ["n", "m"])
    state, loudness, left = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1])
        for n in ("sum", "loudness", "sumN")
    )
    graph = helper.make_graph(nodes, "listener", [frame, state], [loudness, left])
    one = {"datatype": "FP32", "shape": [1]}
    document: dict[str, object] = {
        "name": "listener",
        "version": "1",
        "weights": {"onnx": ONNX_FILE},
        "inputs": [
            {"name": "frame", "datatype": "FP32", "shape": [-1], "lengths": [3, 6]},
            {"name": "sum", **one},
        ],
        "outputs": [{"name": "loudness", **one}, {"name": "sumN", **one}],
        "state": [{"input": "sum", "output": "sumN"}],
        "preprocess": {
            "kind": "audio",
            "output": "frame",
            "score": "loudness",
            "rates": [
                {"rate_hz": 16000, "context": 2, "hop": 4},
                {"rate_hz": 8000, "context": 1, "hop": 2},
            ],
        },
    }
    golden = {"frame": np.ones((1, 6), np.float32), "sum": np.ones((1, 1), np.float32)}

    def make(making: Path) -> Draft:
        _save(graph, making / ONNX_FILE)
        return Draft(document, golden)

    return write_version(repository, "listener", "1", make)


def make_reader(folder: Path, repository: Path, **text: object) -> Path:
    """A model `reader` of texts of at most 4 tokens, 2 of them marks: `y` FP32 [n, 2], sums of ids
    and of tokens.

    It embeds and has the classes "ids" and "tokens". It knows the words one and two, ids 3 and 4.
    """
    nodes = [
        helper.make_node("ReduceSum", ["input_ids", "axes"], ["ids"], keepdims=1),
        helper.make_node("ReduceSum", ["attention_mask", "axes"], ["tokens"], keepdims=1),
        helper.make_node("Concat", ["ids", "tokens"], ["both"], axis=1),
        helper.make_node("Cast", ["both"], ["y"], to=TensorProto.FLOAT),
    ]
    names = ("input_ids", "attention_mask")
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "m"]) for n in names]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    axes = numpy_helper.from_array(np.array([1]), "axes")
    graph = helper.make_graph(nodes, "reader", inputs, [output], [axes])
    document: dict[str, object] = {
        "name": "reader",
        "version": "1",
        "task": "embed",
        "weights": {"onnx": ONNX_FILE},
        "inputs": [{"name": n, "datatype": "INT64", "shape": [-1], "pad": 0.0} for n in names],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "labels": "labels.txt"}],
        "preprocess": {"kind": "text", "tokenizer": "tokenizer.json", "max_tokens": 4, **text},
        "batching": {"max_rows": 2},
    }

    def make(making: Path) -> Draft:
        _save(graph, making / ONNX_FILE)
        _tokenizer().save(str(making / "tokenizer.json"))
        (making / "labels.txt").write_text("ids\ntokens\n", encoding="utf-8")
        return Draft(document, dict.fromkeys(names, np.ones((2, 4), np.int64)))

    return write_version(repository, "reader", "1", make)


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "one": 3, "two": 4}, "[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def _add(graph: onnx.GraphProto, folder: Path, repository: Path) -> Path:
    file = folder / f"{graph.name}.onnx"
    _save(graph, file)
    return add(file, graph.name, repository)


def _save(graph: onnx.GraphProto, file: Path) -> None:
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        str(file),
    )
