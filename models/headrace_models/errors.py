"""The errors of models on disk and of their raw inputs.

ModelError             the family
├── BadSpec            a `model.toml` or a file it names is wrong; `place` is "file:line"
└── BadInput           a caller's photo or text cannot become tensors
    ├── UnreadableImage    no JPEG, PNG or WebP, or a broken one
    └── OversizedImage     larger than a limit that the message names
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "BadInput",
    "BadSpec",
    "ModelError",
    "OversizedImage",
    "UnreadableImage",
    "told_in_a_sentence",
]


class ModelError(Exception):
    """Anything wrong with a model folder or with a raw input to a model."""


class BadSpec(ModelError):
    """A model folder cannot be served; says where (`file:line`), what was expected and what was found."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class BadInput(ModelError):
    """A raw input (a photo, a text) that preprocessing refuses; the message is fit for the caller."""


class UnreadableImage(BadInput):
    pass


class OversizedImage(BadInput):
    pass


@contextmanager
def told_in_a_sentence(folder: Path) -> Iterator[None]:
    """Turn what the system refuses (no space, no permission, no such disk) into a ModelError.

    It names the file that it is about, and for those that are on their way into `folder`, that.
    """
    try:
        yield
    except OSError as error:
        file = Path(str(error.filename2 or error.filename or folder))
        place = folder if file.is_relative_to(folder) else file
        raise ModelError(f"{place}: {error.strerror or error}") from None
