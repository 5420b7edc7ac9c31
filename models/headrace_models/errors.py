"""The errors of models on disk and of their raw inputs.

ModelError             the family
├── BadSpec            a `model.toml` or a file it names is wrong; `where` is "file:line"
└── BadInput           a caller's photo or text cannot become tensors
    ├── UnreadableImage    not a JPEG, PNG or WebP, or a broken one
    └── OversizedImage     larger than a limit, which the message names
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
    "translated_os_errors",
]


class ModelError(Exception):
    """Anything wrong with a model folder or with a raw input to a model."""


class BadSpec(ModelError):
    """A model folder cannot be served: where (`file:line`), what was expected, what was found."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class BadInput(ModelError):
    """Preprocessing refuses a raw input (a photo, a text); callers may read the message."""


class UnreadableImage(BadInput):
    pass


class OversizedImage(BadInput):
    pass


@contextmanager
def translated_os_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError (no space, no permission, no such disk) into a ModelError.

    It names the file, or `folder` for a file on its way into that.
    """
    try:
        yield
    except OSError as error:
        file = Path(str(error.filename2 or error.filename or folder))
        path = folder if file.is_relative_to(folder) else file
        raise ModelError(f"{path}: {error.strerror or error}") from None
