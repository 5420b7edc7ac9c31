"""A short string -> the index of each character in a model's alphabet."""

import numpy as np

from headrace_models.preprocess import Prepared
from headrace_models.preprocess.plain_text import check_length, read_text
from headrace_models.spec.preprocess import CharactersSpec

__all__ = ["CharactersPreprocessor"]


class CharactersPreprocessor:
    """UTF-8 text -> `output` INT64 [1, characters], lower-cased first."""

    def __init__(self, spec: CharactersSpec) -> None:
        self._spec = spec
        self._indices = {character: index for index, character in enumerate(spec.alphabet)}

    def __call__(self, raw: bytes) -> Prepared:
        text = read_text(raw, self._spec.max_chars).lower()
        check_length(text, self._spec.max_chars)  # a letter may become two
        indices = [self._indices.get(character, self._spec.unknown) for character in text]
        return Prepared({self._spec.output: np.array([indices], np.int64)})
