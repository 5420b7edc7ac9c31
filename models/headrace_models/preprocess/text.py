"""A text -> token ids and their mask, with the model's own tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from headrace_models.errors import BadInput, BadSpec
from headrace_models.spec import TextSpec

__all__ = ["TextPreprocessor"]

_MAX_UTF8_BYTES = 4


class TextPreprocessor:
    """UTF-8 text -> `ids` and `mask` INT64 [1, tokens], cut to `max_tokens`, never padded."""

    def __init__(self, spec: TextSpec, folder: Path) -> None:
        self._spec = spec
        self._tokenizer = _read_tokenizer(folder / spec.tokenizer)
        # Set once, before any thread encodes: a tokenizer's settings must not change under a running encode.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)

    def __call__(self, raw: bytes) -> dict[str, npt.NDArray[Any]]:
        encoding = self._tokenizer.encode(self._text(raw))
        return {
            self._spec.ids: np.array([encoding.ids], np.int64),
            self._spec.mask: np.array([encoding.attention_mask], np.int64),
        }

    def _text(self, raw: bytes) -> str:
        limit = self._spec.max_chars
        if len(raw) > limit * _MAX_UTF8_BYTES:
            raise BadInput(f"the text has {len(raw)} bytes, too many for the {limit} characters allowed")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise BadInput("the text is not valid UTF-8") from None
        if len(text) > limit:
            raise BadInput(f"the text has {len(text)} characters, more than the {limit} allowed")
        if not text.strip():
            raise BadInput("the text is empty")
        return text


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception for every fault of a file
        raise BadSpec(str(path), f"expected a tokenizer in tokenizers' JSON format, found: {error}") from None
