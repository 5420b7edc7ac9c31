"""Real requests for every model of the zoo, ready to be sent, each with the means to tell a right answer.

All of it works without a network: texts of our own, and what the built models brought along. A right answer is told
by its content, so an answer that belongs to another request of the same batch is found out.
"""

import base64
import http.client
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import orjson
from PIL import Image

from headrace.config import own_authorization
from headrace_models.errors import ModelError
from headrace_models.fetch import DEFAULT_CACHE, read_member
from headrace_models.repository import ModelVersion, scan
from headrace_models.spec import ImageSpec

__all__ = ["MODELS", "REPOSITORY", "WEIGHTS", "Shot", "infer_shot", "is_served", "shots_for"]

ROOT = Path(__file__).parents[1]
REPOSITORY = ROOT / "models" / "repository"
_READY_TIMEOUT_S = 10
_JPEG_QUALITY = 90
_JSON = {"Content-Type": "application/json"}

# Domains that people visit, and domains as malware makes them up.
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
        "Minutes of yesterday's call. Thanks all for joining. The notes are attached; please correct what I got "
        "wrong before Friday.",
        "Re: patch for the parser. I applied it to my tree and the failing test passes now, but the second hunk no "
        "longer fits the current branch. Could you rebase it?",
        "Re: question about the mailing list archive. The old messages were moved last month. The search page still "
        "points at the old place; I will fix it tonight.",
        "Build broken since this morning. The nightly run stops in the compiler step. It looks as if somebody "
        "upgraded the library without changing the version in the lock file.",
    ),
    "spam": (
        "Lose weight while you sleep! Our amazing new pill melts the pounds away, 100% guaranteed. Order today and "
        "get a second bottle FREE. Click here to unsubscribe.",
        "Lowest mortgage rates in 40 years! Bad credit? No problem! Save thousands of dollars, fill in our free form "
        "and lenders will compete for your loan.",
        "Make money from home. Earn $5,000 a week with no experience. This is not a scam, thousands of people have "
        "become rich already. Reply now!",
        "Cheap meds online, no prescription needed. Best prices guaranteed, discreet shipping worldwide. Visit our "
        "site now for a special discount!!!",
    ),
}
# Two ways of saying one thing: their embeddings are close, and close to no other pair's.
_PARAPHRASES = (
    ("The train to the coast leaves at nine.", "Our train to the seaside departs at nine o'clock."),
    ("How do I reset my password?", "I forgot my password and need a new one."),
    ("The river rose after three days of rain.", "Three days of rainfall made the river swell."),
    ("She bakes bread every Sunday morning.", "Every Sunday she makes fresh bread."),
    ("The parcel was damaged when it arrived.", "My package came broken."),
    ("Turn left at the church and walk to the bridge.", "Go left by the church, then on to the bridge."),
    ("The museum is closed on Mondays.", "On Mondays you cannot visit the museum."),
    ("Water turns the wheel of the mill.", "The mill wheel is driven by water."),
)
_CLOSE = 0.45
# The photos that the golden rows of efficientnet-lite0 were made of, in their order.
_PHOTOS = ("skimage/data/coffee.png", "skimage/data/chelsea.png")
_PHOTOS_WHEEL = "scikit_image-*.whl"


@dataclass(frozen=True, eq=False)
class Shot:
    """One POST. `is_right` reads the body of a 200 and may raise ValueError, LookupError or TypeError on nonsense."""

    model: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    is_right: Callable[[bytes], bool]

    def accepts(self, answer: bytes) -> bool:
        """Whether this is the right answer to this request."""
        try:
            return self.is_right(answer)
        except (ValueError, LookupError, TypeError):
            return False


def shots_for(model: str, repository: Path = REPOSITORY) -> Sequence[Shot]:
    """Requests for one model of MODELS. Raises ModelError if they need a version that `repository` does not have."""
    return MODELS[model](repository)


def is_served(url: str, model: str) -> bool:
    """Whether the server says that this model can answer now. Raises OSError if no server answers."""
    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.netloc, timeout=_READY_TIMEOUT_S)
    try:
        connection.request("GET", f"{place.path.rstrip('/')}/v2/models/{model}/ready", headers=own_authorization())
        return connection.getresponse().status == 200
    except http.client.HTTPException as error:
        raise OSError(f"{url} answered no HTTP: {type(error).__name__}") from None
    finally:
        connection.close()


def infer_shot(
    model: str,
    inputs: Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]],
    output: str,
    expected: npt.NDArray[np.float32],
) -> Shot:
    """FP32 and INT64 tensors as a binary infer request; right is `expected` in `output`, within a thousandth."""
    listed = [
        {
            "name": name,
            "datatype": "INT64" if a.dtype == np.int64 else "FP32",
            "shape": a.shape,
            "parameters": {"binary_data_size": a.nbytes},
        }
        for name, a in inputs.items()
    ]
    header = orjson.dumps({"inputs": listed, "outputs": [{"name": output}]})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }
    body = b"".join((header, *(a.astype(a.dtype.newbyteorder("<")).tobytes() for a in inputs.values())))

    def is_right(answer: bytes) -> bool:
        found = orjson.loads(answer)["outputs"][0]
        return found["name"] == output and np.allclose(found["data"], expected.ravel(), rtol=1e-3, atol=1e-3)

    return Shot(model, f"/v2/models/{model}/infer", headers, body, is_right)


def _vad(repository: Path) -> list[Shot]:
    """Single steps of two voices, in mid-stream, with their states."""
    golden = _golden(_version(repository, "silero-vad"))
    return [
        infer_shot(
            "silero-vad",
            {name: golden[f"input:{name}"][n : n + 1] for name in ("input", "state")},
            "output",
            golden["output:output"][n : n + 1],
        )
        for n in range(len(golden["input:input"]))
    ]


def _domains(_: Path) -> list[Shot]:
    return [_text_shot("dga-lstm", text, label) for label, texts in _DOMAINS.items() for text in texts]


def _mails(_: Path) -> list[Shot]:
    return [_text_shot("mail-spam", text, label) for label, texts in _MAILS.items() for text in texts]


def _text_shot(model: str, text: str, label: str) -> Shot:
    body = orjson.dumps({"input": text})
    return Shot(model, f"/v1/models/{model}:classify", _JSON, body, lambda answer: _best_label(answer) == label)


def _embeddings(_: Path) -> list[Shot]:
    return [
        Shot(
            "minilm-l6",
            "/v1/embeddings",
            _JSON,
            orjson.dumps({"model": "minilm-l6", "input": pair, "encoding_format": "base64"}),
            _are_close,
        )
        for pair in _PARAPHRASES
    ]


def _are_close(answer: bytes) -> bool:
    """Two unit vectors that point the same way."""
    first, second = (np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in orjson.loads(answer)["data"])
    return bool(np.isclose(first @ first, 1, atol=1e-3) and first @ second > _CLOSE)


def _photos(repository: Path) -> list[Shot]:
    """The photos of the golden rows: whole, where the package they are from is in the cache, else those rows."""
    version = _version(repository, "efficientnet-lite0")
    golden = _golden(version)
    photos = _whole_photos() or _photos_of_rows(version, golden["input:image"])
    labels = version.path("labels.txt").read_text(encoding="utf-8").splitlines()
    likely = np.argsort(-golden["output:logits"], axis=1)[:, :3]
    return [
        _photo_shot(photo, {labels[index] for index in best})
        for photo, best in zip(photos, likely.tolist(), strict=True)
    ]


def _photo_shot(photo: Image.Image, labels: set[str]) -> Shot:
    file = BytesIO()
    photo.convert("RGB").save(file, "JPEG", quality=_JPEG_QUALITY)
    headers = {"Content-Type": "image/jpeg"}
    path = "/v1/models/efficientnet-lite0:classify"
    return Shot("efficientnet-lite0", path, headers, file.getvalue(), lambda answer: _best_label(answer) in labels)


def _whole_photos() -> list[Image.Image]:
    wheel = next((ROOT / DEFAULT_CACHE).glob(_PHOTOS_WHEEL), None)
    return [Image.open(BytesIO(read_member(wheel, name))) for name in _PHOTOS] if wheel else []


def _photos_of_rows(version: ModelVersion, rows: npt.NDArray[np.float32]) -> list[Image.Image]:
    """Rows FP32 [n, 3, size, size] back into pixels."""
    spec = version.spec.preprocess
    assert isinstance(spec, ImageSpec)
    pixels = np.clip(np.rint(rows * spec.scale + spec.mean), 0, 255).astype(np.uint8)
    return [Image.fromarray(photo) for photo in pixels.transpose(0, 2, 3, 1)]


def _best_label(answer: bytes) -> str:
    label: str = orjson.loads(answer)["results"][0][0]["label"]
    return label


def _version(repository: Path, model: str) -> ModelVersion:
    found, _ = scan(repository, [model])
    if not found:
        raise ModelError(f"{repository} has no sound version of {model}, which its inputs are taken from")
    return found[0]


def _golden(version: ModelVersion) -> dict[str, npt.NDArray[Any]]:
    with np.load(version.path(version.spec.golden), allow_pickle=False) as saved:
        return dict(saved)


# Every model that requests are known for, in the order of the families.
MODELS: Mapping[str, Callable[[Path], Sequence[Shot]]] = {
    "efficientnet-lite0": _photos,
    "silero-vad": _vad,
    "dga-lstm": _domains,
    "minilm-l6": _embeddings,
    "mail-spam": _mails,
}
# How often users ask each model, relative to the others.
WEIGHTS = {"efficientnet-lite0": 2, "silero-vad": 3, "dga-lstm": 3, "minilm-l6": 2, "mail-spam": 1}
