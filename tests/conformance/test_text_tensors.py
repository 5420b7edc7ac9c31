"""Text tensors of every rank, in and out, at the endpoints that take and give them."""

import base64
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from loadtests.support.model_specs import model_spec, tensor_spec
from tests.conformance.small_models import make_table, make_wide
from tests.conformance.talk import post, refused, tensor

from headrace.errors import BadRequest
from headrace.gateway.json.document import parse
from headrace.gateway.wire.infer import Codec
from headrace.gateway.wire.predict import infer_document
from headrace.inference.tensor import to_array
from headrace_models.spec import ModelSpec

PREDICT = "/v1/models/table:predict"
INFER = "/v2/models/table/infer"
ROWS = [{"word": ["ant"], "age": [1.5]}, {"word": ["bee"], "age": [2.5]}]
COLUMNS = {"word": [["ant"], ["bee"]], "age": [[1.5], [2.5]]}


def b64(text: str) -> dict[str, str]:
    return {"b64": base64.b64encode(text.encode()).decode()}


ANSWERED: dict[str, list[Any]] = {
    "twice": [[3.0], [5.0]],
    "pair": [["ant", "ant"], ["bee", "bee"]],
    "pair_bytes": [[b64("ant")] * 2, [b64("bee")] * 2],
    "plain": ["ant", "bee"],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("table"), make=make_table) as running:
        yield running


def test_columns_of_texts_are_nested_in_and_out(table: InProcessPlatform) -> None:
    assert post(table.port, PREDICT, {"inputs": COLUMNS}).json == {"outputs": ANSWERED}


def test_rows_of_texts_are_nested_in_and_out(table: InProcessPlatform) -> None:
    expected = [{name: values[n] for name, values in ANSWERED.items()} for n in range(2)]
    assert post(table.port, PREDICT, {"instances": ROWS}).json == {"predictions": expected}


def test_texts_may_be_base64_wherever_a_text_may_be(table: InProcessPlatform) -> None:
    columns = COLUMNS | {"word": [[b64("ant")], ["bee"]]}
    assert post(table.port, PREDICT, {"inputs": columns}).json == {"outputs": ANSWERED}
    rows = [ROWS[0] | {"word": [b64("ant")]}, ROWS[1]]
    assert [
        row["plain"] for row in post(table.port, PREDICT, {"instances": rows}).json["predictions"]
    ] == [
        "ant",
        "bee",
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            [["ant"], ["bee", "cow"]],
            "inputs[1]: expected an array of 1 elements, like the first one, found 2",
        ),
        (
            [["ant"], "bee"],
            "inputs[1]: expected an array of 1 elements, like the first one, found a string",
        ),
        (["ant", "bee"], "inputs[0].shape: expected 2 axes [n, 1], found 1"),
        ([["ant"], [7]], 'inputs[1][0]: expected a text or {"b64": text}, found a number'),
        ([["ant"], [None]], 'inputs[1][0]: expected a text or {"b64": text}, found null'),
        ([[["ant"]], [["bee"]]], "inputs[0].shape: expected 2 axes [n, 1], found 3"),
        ([["ant", "bee"]], "inputs[0].shape: axis 1: expected 1, found 2"),
        ([[], []], "inputs[0].shape: axis 1: expected 1, found 0"),
    ],
)
def test_texts_that_are_badly_nested_are_refused(
    table: InProcessPlatform, words: object, complaint: str
) -> None:
    said = post(table.port, PREDICT, {"inputs": COLUMNS | {"word": words}})
    assert refused(said, 400, "bad_request")
    assert complaint in said.json["error"]


def test_numbers_keep_the_axes_of_their_nesting(tmp_path_factory: pytest.TempPathFactory) -> None:
    with in_process_platform(tmp_path_factory.mktemp("wide"), make=make_wide) as wide:
        said = post(wide.port, "/v1/models/wide:predict", {"instances": [[1.0], [2.0]]})
        assert said.json == {
            "predictions": [{"twice": [2.0], "square": [1.0]}, {"twice": [4.0], "square": [4.0]}]
        }
        assert refused(
            post(wide.port, "/v1/models/wide:predict", {"instances": [1.0, 2.0]}),
            400,
            "bad_request",
        )


@pytest.mark.parametrize("name", ["pair", "plain"])
def test_classes_of_an_output_of_texts_are_refused_by_name(
    table: InProcessPlatform, name: str
) -> None:
    inputs = [tensor("word", [1, 1], ["ant"], "BYTES"), tensor("age", [1, 1], [1.0])]
    wish = {"name": name, "parameters": {"classification": 1}}
    said = post(table.port, INFER, {"inputs": inputs, "outputs": [wish]})
    assert refused(said, 400, "bad_request")
    expected = (
        f'outputs[0].parameters.classification: expected an output of numbers, found "{name}" '
        "of BYTES"
    )
    assert said.json["error"] == expected


def test_an_output_of_one_number_a_row_has_one_class(table: InProcessPlatform) -> None:
    inputs = [tensor("word", [1, 1], ["ant"], "BYTES"), tensor("age", [1, 1], [1.0])]
    wish = {"name": "twice", "parameters": {"classification": 3}}
    (output,) = post(table.port, INFER, {"inputs": inputs, "outputs": [wish]}).json["outputs"]
    assert (output["shape"], output["data"]) == ([1, 1], ["2.000000:0"])


def word_alone(shape: tuple[int, ...], *, has_rows: bool = True) -> ModelSpec:
    """A model of one input, a text."""
    word = tensor_spec("word", "BYTES", shape, has_rows=has_rows)
    return model_spec(inputs=[word], outputs=[tensor_spec("y", shape=[])])


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (word_alone(()), (1,)),
        (word_alone((1,)), (1, 1)),
        (word_alone((-1,)), (1, 1)),
        (word_alone((1, -1)), (1, 1, 1)),
        (word_alone((), has_rows=False), ()),
        (word_alone((-1,), has_rows=False), (1,)),
    ],
    ids=["n", "n-1", "n-any", "n-1-any", "scalar", "any"],
)
def test_a_body_of_bytes_is_one_row_of_one_text(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    (read,) = Codec(spec).decode(b"ant", "0").inputs
    assert (read.shape, bytes(read.data)) == (shape, b"\3\0\0\0ant")


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (word_alone((2,)), "a row of the input has 2 elements"),
        (word_alone((3,), has_rows=False), "the input has 3 elements"),
    ],
    ids=["rows", "whole"],
)
def test_a_body_of_bytes_cannot_be_several_texts(spec: ModelSpec, found: str) -> None:
    with pytest.raises(BadRequest, match=f"expected a JSON part, as {found}"):
        Codec(spec).decode(b"ant", "0")


def test_a_text_of_one_axis_more_is_taken_for_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    spec = word_alone(())
    for shape in ([2], [2, 1]):
        (read,) = (
            Codec(spec)
            .read({"inputs": [tensor("word", shape, ["ant", "bee"], "BYTES")]}, memoryview(b""))
            .inputs
        )
        assert read.shape == (2,)
    with pytest.raises(BadRequest, match=r"inputs\[0\].shape: expected 1 axes \[n\], found 2"):
        Codec(spec).read(
            {"inputs": [tensor("word", [1, 2], ["ant", "bee"], "BYTES")]}, memoryview(b"")
        )


ANY: st.SearchStrategy[object] = st.recursive(
    st.sampled_from([None, True, 1, 1.5, "ant", b64("ant"), {"b64": "?"}, {"b64": 1}, {}, []]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["word", "b64", "x"]), inner, max_size=2)
    ),
    max_leaves=8,
)


@given(values=ANY, form=st.sampled_from(["instances", "inputs"]), is_parsed=st.booleans())
def test_whatever_values_are_given_they_are_read_or_refused(
    values: object, form: str, *, is_parsed: bool
) -> None:
    """As simdjson's arrays and as Python's lists, which a body with NaN in it is read as."""
    spec = word_alone((-1,))
    document = parse(orjson.dumps({form: values})) if is_parsed else {form: values}
    with suppress(BadRequest):
        infer, tail = infer_document(document, spec)
        (word,) = Codec(spec).read(infer, memoryview(tail)).inputs
        assert to_array(word).shape == word.shape
