"""A short string -> the place of each character in a model's alphabet."""

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace_models.errors import BadInput
from headrace_models.spec import CharactersSpec

__all__ = ["CharactersPreprocessor"]


class CharactersPreprocessor:
    """UTF-8 text -> `output` INT64 [1, characters], lower-cased first."""

    def __init__(self, spec: CharactersSpec) -> None:
        self._spec = spec
        self._places = {character: place for place, character in enumerate(spec.alphabet)}

    def __call__(self, raw: bytes) -> dict[str, npt.NDArray[Any]]:
        try:
            text = raw.decode("utf-8").lower()
        except UnicodeDecodeError:
            raise BadInput("the text is not valid UTF-8") from None
        if not text:
            raise BadInput("the text is empty")
        if len(text) > self._spec.max_chars:
            raise BadInput(f"the text has {len(text)} characters, more than the {self._spec.max_chars} allowed")
        places = [self._places.get(character, self._spec.unknown) for character in text]
        return {self._spec.output: np.array([places], np.int64)}
