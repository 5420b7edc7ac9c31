from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from headrace_models.names import is_model_name, is_version_name
from headrace_models.spec import DTYPES, UPLOAD_TYPES, ModelSpec, RawSpec, TokenInputs

DIGEST = "0" * 64
STATE = {"input": "x", "output": "y"}
FREE = {"name": "x", "datatype": "FP32", "shape": [-1]}

AUDIO = {
    "kind": "audio",
    "output": "x",
    "score": "y",
    "rates": [{"rate_hz": 8000, "context": 1, "hop": 2}],
}
# A model that takes audio, but for its `preprocess`.
HEARING = {
    "inputs": [FREE, {"name": "s", "datatype": "FP32", "shape": [1]}],
    "outputs": [{"name": name, "datatype": "FP32", "shape": [1]} for name in ("y", "t")],
    "state": [{"input": "s", "output": "t"}],
}


def ids(**more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "INT64", "shape": [3]} | more


@pytest.fixture
def whole(document: dict[str, Any]) -> dict[str, Any]:
    return document | {
        "golden": "golden.npz",
        "files": {"model.onnx": DIGEST, "golden.npz": DIGEST},
    }


def test_a_small_spec_is_enough(whole: dict[str, Any]) -> None:
    spec = ModelSpec.model_validate(whole)
    assert (spec.input_names, spec.output_names, spec.is_batched) == (("x",), ("y",), True)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"backend": "torch"}, r'no file for backend "torch", only for \[\'onnx\'\]'),
        (
            {"weights": {"onnx": "model.onnx", "torch": "model.safetensors"}},
            "architecture: expected a name",
        ),
        ({"golden": "other.npz"}, 'no SHA-256 for "other.npz"'),
        (
            {"state": [{"input": "x", "output": "elsewhere"}]},
            '"x" -> "elsewhere" names no input or no output',
        ),
        ({"state": [STATE]}, 'expected "y" to be of the datatype and shape of "x"'),
        (
            {"state": [STATE], "inputs": [FREE], "outputs": [FREE | {"name": "y"}]},
            '"x": expected numbers in a fixed',
        ),
        ({"sequence": {"max_idle_s": 0}}, "greater than 0"),
        ({"inputs": []}, "at least 1 item"),
        ({"name": "../escape"}, "should match pattern"),
        ({"weights": {"onnx": "../model.onnx"}}, "should match pattern"),
        ({"batching": {"max_rows": 0}}, "greater than or equal to 1"),
        ({"version": 1}, "should be a valid string"),
        (
            {"inputs": [ids(datatype="FP32", minimum=0)]},
            "expected an input of integers, found FP32",
        ),
        (
            {"inputs": [ids(datatype="BYTES", maximum=0)]},
            "expected an input of integers, found BYTES",
        ),
        ({"inputs": [ids(minimum=2, maximum=1)]}, "minimum: expected at most maximum=1, found 2"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(
    whole: dict[str, Any], change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ModelSpec.model_validate(whole | change)


def test_audio_is_no_raw_input_of_requests(whole: dict[str, Any]) -> None:
    spec = ModelSpec.model_validate(whole | HEARING | {"preprocess": AUDIO})
    assert spec.raw is None
    assert spec.audio is not None
    assert [(rate.rate_hz, rate.context, rate.hop) for rate in spec.audio.rates] == [(8000, 1, 2)]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"preprocess": AUDIO | {"output": "s"}},
            'expected a model of one input "s" beside its state',
        ),
        ({"preprocess": AUDIO, "state": []}, 'expected a model of one input "x" beside its state'),
        ({"preprocess": AUDIO | {"score": "z"}}, 'score: "z" names no output'),
        ({"preprocess": AUDIO | {"input": "s"}}, 'input: "s" is one of the model\'s own'),
        ({"preprocess": AUDIO | {"rates": []}}, "at least 1 item"),
    ],
)
def test_audio_that_its_model_cannot_take_is_refused(
    whole: dict[str, Any], change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ModelSpec.model_validate(whole | HEARING | change)


def test_classes_are_those_of_the_first_output_with_labels(whole: dict[str, Any]) -> None:
    outputs = [
        {"name": "hidden", "datatype": "FP32", "shape": [8]},
        {"name": "scores", "datatype": "FP32", "shape": [2], "labels": "labels.txt"},
    ]
    files = {"model.onnx": DIGEST, "golden.npz": DIGEST, "labels.txt": DIGEST}
    spec = ModelSpec.model_validate(whole | {"outputs": outputs, "files": files})
    assert spec.classes is not None
    assert spec.classes.name == "scores"


def test_every_datatype_is_little_endian() -> None:
    assert all(dtype == dtype.newbyteorder("<") for dtype in DTYPES.values())


def raw(**preprocess: Any) -> RawSpec:
    return TypeAdapter[RawSpec](RawSpec).validate_python(preprocess)


IMAGE = raw(kind="image", output="x", size=2, crop=1.0, mean=0.0, scale=1.0)
TEXT = raw(kind="text", tokenizer="tokenizer.json", max_tokens=8)
CHARACTERS = raw(kind="characters", output="x", alphabet="a", max_chars=3)


@pytest.mark.parametrize(
    ("kind", "takes", "is_binary", "needs_vocabulary", "releases_interpreter"),
    [
        (IMAGE, "photo", True, False, True),
        (TEXT, "text", False, True, False),
        (CHARACTERS, "text", False, True, False),
    ],
)
def test_a_kind_of_preprocessing_answers_for_itself(
    kind: RawSpec, takes: str, is_binary: bool, needs_vocabulary: bool, releases_interpreter: bool
) -> None:
    assert (kind.takes, kind.is_binary) == (takes, is_binary)
    assert kind.needs_vocabulary == needs_vocabulary
    assert kind.releases_interpreter == releases_interpreter


def test_a_tokenizer_makes_two_inputs_that_belong_together() -> None:
    assert TEXT.tokens == TokenInputs("input_ids", "attention_mask", 8)
    assert (IMAGE.tokens, CHARACTERS.tokens) == (None, None)


def test_a_file_that_preprocessing_reads_has_a_digest(whole: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r'files: no SHA-256 for "tokenizer\.json"'):
        ModelSpec.model_validate(whole | {"preprocess": TEXT.model_dump()})


def test_bodies_of_every_kind_of_file_may_be_sent() -> None:
    assert set(IMAGE.media_types) <= set(UPLOAD_TYPES)


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "x" * 32])
def test_a_name_of_letters_and_digits_fits(name: str) -> None:
    assert is_model_name(name)
    assert is_version_name(name)


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "a b", "é", "a\n", "x" * 129])
def test_another_name_fits_neither_a_model_nor_a_version(name: str) -> None:
    assert not is_model_name(name)
    assert not is_version_name(name)


def test_a_version_has_a_shorter_name_than_a_model() -> None:
    assert is_model_name("x" * 128)
    assert not is_version_name("x" * 33)
