"""TensorFlow Serving's rows by name, short and long, as infer bodies."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from loadtests.support.doubler import make_doubler

from headrace.errors import BadRequest
from headrace.gateway.json.document import LARGE_BYTES, parse
from headrace.gateway.wire.infer import Codec
from headrace.gateway.wire.predict import infer_document
from headrace.inference.tensor import to_array
from headrace_models.repository import scan
from headrace_models.spec import ModelSpec

LONG = np.linspace(-1, 1, 2 * LARGE_BYTES // 10, dtype=np.float32)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A model of `x` FP32 [n, any]."""
    folder = tmp_path_factory.mktemp("model")
    make_doubler(folder, folder / "repository")
    doubler = scan(Path(folder / "repository"))[0][0].spec
    (x,) = doubler.inputs
    return doubler.model_copy(update={"inputs": (x.model_copy(update={"shape": (-1,)}),)})


def rows_of(spec: ModelSpec, *rows: "np.ndarray") -> "np.ndarray":
    """The input of the model for these rows, sent by name."""
    return input_of(spec, orjson.dumps({"instances": [{"x": row.tolist()} for row in rows]}))


def input_of(spec: ModelSpec, body: bytes) -> "np.ndarray":
    document, tail = infer_document(parse(body), spec)
    return to_array(Codec(spec).read(document, memoryview(tail)).inputs[0])


@pytest.mark.parametrize("length", [4, LONG.size])
def test_rows_by_name_are_stacked_to_the_bit(spec: ModelSpec, length: int) -> None:
    rows = [LONG[:length], LONG[:length] * 2]
    assert rows_of(spec, *rows).tobytes() == np.stack(rows).tobytes()


def test_a_long_row_and_a_short_one_are_refused(spec: ModelSpec) -> None:
    with pytest.raises(
        BadRequest,
        match=r"instances\[1\]: expected the shape \[13107\] of the first row, found \[4\]",
    ):
        rows_of(spec, LONG, LONG[:4])


@pytest.mark.parametrize("other", ["{}", '{"x":null}', "7", '"a"'])
@pytest.mark.parametrize("datatype", ["BOOL", "BYTES", "FP32"])
def test_what_stands_in_the_place_of_a_row_is_refused(
    spec: ModelSpec, datatype: str, other: str
) -> None:
    (x,) = spec.inputs
    typed = spec.model_copy(update={"inputs": (x.model_copy(update={"datatype": datatype}),)})
    for rows in ("[null],[]", "[1]", "[true],[]", '["a"]', "[]"):
        with pytest.raises(BadRequest):
            input_of(typed, f'{{"instances":[{rows},{other}]}}'.encode())
