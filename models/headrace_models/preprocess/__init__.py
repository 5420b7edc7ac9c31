"""Raw bytes from a caller -> the tensors a model takes."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from headrace_models.spec.preprocess import CharactersSpec, ImageSpec, RawSpec, TextSpec

__all__ = ["Prepared", "Preprocessor", "load"]


class Prepared(NamedTuple):
    """Tensors by input name, each [1, *shape]; `is_cut` if the text was too long."""

    tensors: dict[str, npt.NDArray[Any]]
    is_cut: bool = False


class Preprocessor(Protocol):
    """Safe to call from several threads at once."""

    def __call__(self, raw: bytes) -> Prepared:
        """Make tensors of one raw input. Raises BadInput if it cannot become them."""
        ...


def load(spec: RawSpec, folder: Path) -> Preprocessor:
    """The preprocessor that `spec` describes; `folder` holds the files it names.

    Raises BadSpec if one of them cannot be read. Only the library that this kind needs is imported.
    """
    match spec:
        case ImageSpec():
            # Pillow, tokenizers and the like are imported by those who need them.
            from headrace_models.preprocess.image import ImagePreprocessor

            return ImagePreprocessor(spec)
        case TextSpec():
            from headrace_models.preprocess.text import TextPreprocessor

            return TextPreprocessor(spec, folder)
        case CharactersSpec():
            from headrace_models.preprocess.characters import CharactersPreprocessor

            return CharactersPreprocessor(spec)
