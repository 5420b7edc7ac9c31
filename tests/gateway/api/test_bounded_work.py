"""Bodies and answers that would hold the interpreter for long are refused before it begins."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.gateway.wire.test_hostile_bodies import codec

from headrace.errors import AnswerTooLarge, BadJson, BadRequest
from headrace.gateway.api.classify import ClassifyBody, classify_results
from headrace.gateway.api.embeddings import EmbeddingsBody
from headrace.gateway.api.small_bodies import MAX_ELEMENTS, MAX_TEXT_BYTES, MAX_TEXTS, read_json
from headrace.gateway.json.scan import scan
from headrace.gateway.json.writing import json_array, rows_in_pieces
from headrace.gateway.wire.predict import predictions
from headrace.inference.request import Answer, Times
from headrace.inference.tensor import Tensor, from_array
from headrace_models.spec import OutputSpec

NO_TIME = Times(0, 0, 0, 1)


@pytest.mark.parametrize("mark", [b'"', b":", b"]", b"}", b","])
def test_too_many_of_any_mark_are_refused(mark: bytes) -> None:
    with pytest.raises(BadJson):
        scan(b"[" + mark * 2_000_001)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.sampled_from('a\\",[]{}:'), max_size=12), max_size=6), st.integers(1, 9))
def test_texts_are_told_apart_however_the_blocks_fall(texts: list[str], block: int) -> None:
    body = json.dumps(texts).encode()
    found = scan(body, block_bytes=block)  # so small that short texts have several blocks
    spans = [body[a : b + 1] for a, b in found.quotes.reshape(-1, 2).tolist()]
    assert [json.loads(span) for span in spans] == texts
    assert len(found.offsets) == 2 + max(0, len(texts) - 1)


@pytest.mark.parametrize("number", ["0." + "1" * 1_100_000, "1" + " " * 1_100_000])
def test_a_number_that_no_comma_ends_is_refused(number: str) -> None:
    data = ",".join(["1"] * 40_000 + [number])
    tensor = f'{{"name":"x","datatype":"FP32","shape":[40001,1],"data":[{data}]}}'
    with pytest.raises(BadRequest, match="between its commas"):
        codec("FP32", (1,)).decode(f'{{"inputs":[{tensor}]}}'.encode(), None)


def test_long_numbers_are_read_right_piece_by_piece() -> None:
    data = ",".join(["0." + "25".ljust(n % 700, "0") for n in range(2, 4002)])
    tensor = f'{{"name":"x","datatype":"FP32","shape":[4000,1],"data":[{data}]}}'
    found = codec("FP32", (1,)).decode(f'{{"inputs":[{tensor}]}}'.encode(), None).inputs[0]
    np.testing.assert_array_equal(np.frombuffer(found.data, "<f4"), np.full(4000, 0.25, np.float32))


@pytest.mark.parametrize("element", ["1", "[]", "{}", "null", "true"])
@pytest.mark.parametrize("kind", [ClassifyBody, EmbeddingsBody])
def test_a_list_of_wrong_things_is_refused_at_the_first(
    kind: type[ClassifyBody] | type[EmbeddingsBody], element: str
) -> None:
    body = f'{{"input":["a",{",".join([element] * 1000)}]}}'
    with pytest.raises(ValidationError) as caught:
        kind.model_validate_json(body)
    assert caught.value.error_count() < 20


@pytest.mark.parametrize(
    "content",
    [
        ",".join(["1"] * (MAX_ELEMENTS + 1)),
        ",".join(['"' + "a" * 20 + '"'] * (MAX_TEXTS + 1)),
        '"' + "a" * (MAX_TEXT_BYTES + 1) + '"',
    ],
    ids=["elements", "texts", "a text"],
)
def test_more_than_the_other_doors_read_is_refused_before_it_is_read(content: str) -> None:
    with pytest.raises(BadJson):
        read_json(EmbeddingsBody, f'{{"model":"m","input":[{content}]}}'.encode())


@pytest.mark.parametrize("shape", [(3,), (200_000,), (3, 50_000), (100_000, 2), (2, 2, 30_000)])
def test_an_array_in_pieces_is_the_same_json(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    written = orjson.dumps(json_array(array), option=orjson.OPT_SERIALIZE_NUMPY)
    np.testing.assert_array_equal(np.array(orjson.loads(written), np.float32), array)


@pytest.mark.parametrize("count", [0, 1, 65_536, 65_537])
def test_rows_in_pieces_are_the_same_json(count: int) -> None:
    assert orjson.loads(orjson.dumps(rows_in_pieces(range(count), 1))) == list(range(count))


def test_more_classes_than_are_written_are_refused() -> None:
    output = OutputSpec(name="y", datatype="FP32", shape=(1000,))
    answer = Answer([from_array("y", np.zeros((300, 1000), np.float32))], NO_TIME)
    labels = [str(n) for n in range(1000)]
    assert len(orjson.loads(orjson.dumps(classify_results(answer, output, 300, labels, 5)))) == 300
    with pytest.raises(AnswerTooLarge):
        classify_results(answer, output, 300, labels, 1000)


def test_predictions_of_several_outputs_are_objects_by_row() -> None:
    values = np.arange(4, dtype=np.float32).reshape(2, 2)
    answer = Answer([from_array("a", values), from_array("b", values[:, 0])], NO_TIME)
    written = orjson.dumps(predictions(answer, is_rows=True), option=orjson.OPT_SERIALIZE_NUMPY)
    assert orjson.loads(written) == {"predictions": [{"a": [0, 1], "b": 0}, {"a": [2, 3], "b": 2}]}


def test_more_predictions_than_are_written_are_refused() -> None:
    answer = Answer([Tensor("a", "UINT8", (2_000_001,), bytes(2_000_001))], NO_TIME)
    with pytest.raises(AnswerTooLarge):
        predictions(answer, is_rows=False)
