import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_models.reasons import sentence, without_paths

KIND, PLACE = "[ONNXRuntimeError] : 1 : FAIL : ", "/onnxruntime_src/core/"


def test_paths_are_cut_to_their_last_name() -> None:
    text = "BadSpec: /srv/models/m/1/model.toml:12: expected 1/2, not '/tmp/x/y.onnx'"
    assert without_paths(text) == "BadSpec: model.toml:12: expected 1/2, not 'y.onnx'"


def test_a_reason_is_one_sentence_without_paths() -> None:
    reason = "it does not start: /data/models/m/1/model.toml:3: expected a number"
    text = f"{reason}\n  File /x/y.py, line 3"
    assert sentence(text) == "it does not start: model.toml:3: expected a number"
    assert sentence("") == "no message"
    assert len(sentence("x" * 10_000)) <= 200


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"{KIND}Load model from /tmp/a b.onnx failed:{PLACE}graph/model.cc:256 "
            "onnxruntime::Model::Model("
            "onnx::ModelProto&&, const onnxruntime::PathString&, const onnxruntime::ModelOptions&) "
            "Unsupported model IR version: 99, max supported IR version: 14\n",
            "Unsupported model IR version: 99, max supported IR version: 14",
        ),
        (
            f"{KIND}Load model from x.onnx failed:{PLACE}graph/load.h:46 void "
            "onnxruntime::model_load_utils::"
            "ValidateOpsetForDomain(const "
            "std::unordered_map<std::__cxx11::basic_string<char>, int>&, bool, int) "
            "ONNX Runtime only *guarantees* support",
            "ONNX Runtime only *guarantees* support",
        ),
        (
            f"{KIND}Non-zero status code returned while running Reshape node. Name:'' Status "
            f"Message: {PLACE}"
            "tensor/reshape_helper.h:91 onnxruntime::ReshapeHelper::ReshapeHelper(const "
            "onnxruntime::TensorShape&, "
            "onnxruntime::TensorShapeVector&, bool) input_shape_size == requested_shape_size "
            "was false. Bad shape",
            "Non-zero status code returned while running Reshape node. Name:'' Status Message: "
            "input_shape_size == requested_shape_size was false. Bad shape",
        ),
        (
            f"{KIND}External data path validation failed for initializer: big. Error: "
            "tensorprotoutils.cc:619 "
            "ValidateExternalDataPathFromDir External data path does not exist: "
            '"/tmp/x/weights.bin"',
            "External data path validation failed for initializer: big. Error: "
            'External data path does not exist: "weights.bin"',
        ),
        (
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from /tmp/x.onnx "
            "failed:Protobuf parsing failed.",
            "Protobuf parsing failed.",
        ),
        (
            "a text (with parentheses) and a::b of its own",
            "a text (with parentheses) and a::b of its own",
        ),
    ],
    ids=["IR", "opset", "reshape", "weights", "protobuf", "none of its"],
)
def test_a_runtimes_text_is_reduced_to_its_reason(text: str, reason: str) -> None:
    assert sentence(text) == reason


@settings(deadline=None)
@given(st.text() | st.text("a:&(<> ,)*~.h1", max_size=200).map(lambda tail: f"{KIND}x.cc:1 {tail}"))
def test_whatever_is_said_becomes_one_short_line(text: str) -> None:
    found = sentence(text)
    assert len(found.splitlines()) <= 1
    assert len(found) <= 200
