"""Real requests for every model of the zoo, each with a check of its answer.

They need no network: texts are our own, other inputs come with the built models. Answers are
checked by content, which reveals an answer that belongs to another request of the same batch.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
from PIL import Image

from headrace.loadtest.checked_request import CheckedRequest, infer_request
from headrace_models.errors import ModelError
from headrace_models.fetch import DEFAULT_CACHE, read_member
from headrace_models.golden import read_golden
from headrace_models.repository import ModelVersion, scan
from headrace_models.spec import ImageSpec

__all__ = ["MODELS", "WEIGHTS", "requests_for", "sound_version"]

_JPEG_QUALITY = 90
_JSON = {"Content-Type": "application/json"}

# Domains that people visit, and domains like those that malware generates.
_DOMAINS: Mapping[str, tuple[str, ...]] = {
    "benign": (
        "wikipedia.org",
        "python.org",
        "debian.org",
        "openstreetmap.org",
        "mozilla.org",
        "archive.org",
        "stackoverflow.com",
        "theguardian.com",
        "weather.com",
        "nationalgeographic.com",
    ),
    "generated": (
        "xkqjzvbwpt.com",
        "qwhfzrtkjvbn.net",
        "vjbtqxkzlpwm.info",
        "zxvkqpwjrtyh.org",
        "hgtfzqxwvkpl.com",
        "bqzxkvjwmtrf.net",
        "kfjqzvxwplhd.info",
        "wqxzvjkpmtbh.com",
    ),
}
_MAILS: Mapping[str, tuple[str, ...]] = {
    "ham": (
        "Minutes of yesterday's call. Thanks all for joining. The notes are attached; please "
        "correct what I got wrong before Friday.",
        "Re: patch for the parser. I applied it to my tree and the failing test passes now, "
        "but the second hunk no longer fits the current branch. Could you rebase it?",
        "Re: question about the mailing list archive. The old messages were moved last month."
        " The search page still points at the old place; I will fix it tonight.",
        "Build broken since this morning. The nightly run stops in the compiler step. It "
        "looks as if somebody upgraded the library without changing the version in the lock "
        "file.",
    ),
    "spam": (
        "Lose weight while you sleep! Our amazing new pill melts the pounds away, 100% "
        "guaranteed. Order today and get a second bottle FREE. Click here to unsubscribe.",
        "Lowest mortgage rates in 40 years! Bad credit? No problem! Save thousands of "
        "dollars, fill in our free form and lenders will compete for your loan.",
        "Make money from home. Earn $5,000 a week with no experience. This is not a scam, "
        "thousands of people have become rich already. Reply now!",
        "Cheap meds online, no prescription needed. Best prices guaranteed, discreet shipping"
        " worldwide. Visit our site now for a special discount!!!",
    ),
}
# Pairs with one meaning: their embeddings are close to each other, and to no other pair's.
_PARAPHRASES = (
    ("The train to the coast leaves at nine.", "Our train to the seaside departs at nine o'clock."),
    ("How do I reset my password?", "I forgot my password and need a new one."),
    ("The river rose after three days of rain.", "Three days of rainfall made the river swell."),
    ("She bakes bread every Sunday morning.", "Every Sunday she makes fresh bread."),
    ("The parcel was damaged when it arrived.", "My package came broken."),
    (
        "Turn left at the church and walk to the bridge.",
        "Go left by the church, then on to the bridge.",
    ),
    ("The museum is closed on Mondays.", "On Mondays you cannot visit the museum."),
    ("Water turns the wheel of the mill.", "The mill wheel is driven by water."),
)
_CLOSE = 0.45
# The photos of the golden rows of efficientnet-lite0, in the same order.
_PHOTOS = ("skimage/data/coffee.png", "skimage/data/chelsea.png")
_PHOTOS_WHEEL = "scikit_image-*.whl"


def requests_for(model: str, repository: Path) -> Sequence[CheckedRequest]:
    """Requests for one model of MODELS.

    Raises ModelError if they need a version that `repository` lacks.
    """
    return MODELS[model](repository)


def sound_version(repository: Path, model: str) -> ModelVersion:
    """The newest sound version. Raises ModelError if `repository` has none."""
    found, _ = scan(repository, [model])
    if not found:
        raise ModelError(f"{repository}: expected a sound version of {model}, found none")
    return found[0]


def _vad(repository: Path) -> list[CheckedRequest]:
    """Single steps from the middle of two voice recordings, with their states."""
    inputs, outputs = read_golden(sound_version(repository, "silero-vad"))
    rows = range(len(inputs["input"]))
    return [
        infer_request(
            "silero-vad",
            {name: a[n : n + 1] for name, a in inputs.items()},
            "output",
            outputs["output"][n],
        )
        for n in rows
    ]


def _domains(_: Path) -> list[CheckedRequest]:
    return [
        _text_request("dga-lstm", text, label)
        for label, texts in _DOMAINS.items()
        for text in texts
    ]


def _mails(_: Path) -> list[CheckedRequest]:
    return [
        _text_request("mail-spam", text, label) for label, texts in _MAILS.items() for text in texts
    ]


def _text_request(model: str, text: str, label: str) -> CheckedRequest:
    body = orjson.dumps({"input": text})
    return CheckedRequest(
        model,
        f"/v1/models/{model}:classify",
        _JSON,
        body,
        lambda answer: _best_label(answer) == label,
    )


def _embeddings(_: Path) -> list[CheckedRequest]:
    return [
        CheckedRequest(
            "minilm-l6",
            "/v1/embeddings",
            _JSON,
            orjson.dumps({"model": "minilm-l6", "input": pair, "encoding_format": "base64"}),
            _are_close,
        )
        for pair in _PARAPHRASES
    ]


def _are_close(answer: bytes) -> bool:
    """True for two unit vectors of nearly one direction."""
    first, second = (
        np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
        for item in orjson.loads(answer)["data"]
    )
    return bool(np.isclose(first @ first, 1, atol=1e-3) and first @ second > _CLOSE)


def _photos(repository: Path) -> list[CheckedRequest]:
    """The photos of the golden rows: the cached originals, otherwise made from the rows."""
    version = sound_version(repository, "efficientnet-lite0")
    inputs, outputs = read_golden(version)
    photos = _original_photos() or _photos_of_rows(version, inputs["image"])
    labels = version.path("labels.txt").read_text(encoding="utf-8").splitlines()
    likely = np.argsort(-outputs["logits"], axis=1)[:, :3]
    return [
        _photo_request(photo, {labels[index] for index in best})
        for photo, best in zip(photos, likely.tolist(), strict=True)
    ]


def _photo_request(photo: Image.Image, labels: set[str]) -> CheckedRequest:
    file = BytesIO()
    photo.convert("RGB").save(file, "JPEG", quality=_JPEG_QUALITY)
    headers = {"Content-Type": "image/jpeg"}
    path = "/v1/models/efficientnet-lite0:classify"
    return CheckedRequest(
        "efficientnet-lite0",
        path,
        headers,
        file.getvalue(),
        lambda answer: _best_label(answer) in labels,
    )


def _original_photos() -> list[Image.Image]:
    wheel = next(DEFAULT_CACHE.glob(_PHOTOS_WHEEL), None)
    return [Image.open(BytesIO(read_member(wheel, name))) for name in _PHOTOS] if wheel else []


def _photos_of_rows(version: ModelVersion, rows: npt.NDArray[np.float32]) -> list[Image.Image]:
    """Pixels from rows FP32 [n, 3, size, size]."""
    spec = version.spec.preprocess
    assert isinstance(spec, ImageSpec)
    pixels = np.clip(np.rint(rows * spec.scale + spec.mean), 0, 255).astype(np.uint8)
    return [Image.fromarray(photo) for photo in pixels.transpose(0, 2, 3, 1)]


def _best_label(answer: bytes) -> str:
    """The first label.

    Raises ValueError for an invalid score: even a broken model ranks some class first.
    """
    best = orjson.loads(answer)["results"][0][0]
    if not 0 <= best["score"] <= 1:
        raise ValueError(f"score: expected 0 to 1, found {best['score']}")
    label: str = best["label"]
    return label


# Every model with known requests, in the order of the families.
MODELS: Mapping[str, Callable[[Path], Sequence[CheckedRequest]]] = {
    "efficientnet-lite0": _photos,
    "silero-vad": _vad,
    "dga-lstm": _domains,
    "minilm-l6": _embeddings,
    "mail-spam": _mails,
}
# Relative rates at which users call the models.
WEIGHTS = {"efficientnet-lite0": 2, "silero-vad": 3, "dga-lstm": 3, "minilm-l6": 2, "mail-spam": 1}
