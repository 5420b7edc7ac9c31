"""A text -> token ids and their mask, with the model's own tokenizer."""

from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from headrace_models.errors import BadInput, BadSpec
from headrace_models.preprocess import Prepared
from headrace_models.preprocess.plain_text import EMPTY, read_text
from headrace_models.spec.preprocess import TextSpec

__all__ = ["TextPreprocessor"]

# The tokenizer holds the interpreter while it reads one text, 2 us a character at worst, but not
# while it reads a list. For short texts that is better: a thread that releases the interpreter
# waits to get it back.
_LONG_CHARS = 2_000


class TextPreprocessor:
    """UTF-8 text -> `ids` and `mask` INT64 [1, tokens], never padded, never without a token.

    A text of more than `max_tokens` is cut or refused, as the spec's `truncate` says.
    """

    def __init__(self, spec: TextSpec, folder: Path) -> None:
        self._spec = spec
        self._tokenizer = _read_tokenizer(folder / spec.tokenizer)
        # Set once, before any thread encodes: a tokenizer's settings must not change under a
        # running encode.
        self._tokenizer.no_padding()
        if spec.truncate == "error":
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(spec.max_tokens)

    def __call__(self, raw: bytes) -> Prepared:
        encoding = self._encode(read_text(raw, self._spec.max_chars))
        # The tokenizer drops some texts altogether, such as marks of no width.
        if all(encoding.special_tokens_mask):
            raise BadInput(EMPTY)
        if len(encoding.ids) > self._spec.max_tokens:
            raise BadInput(
                f"text too long (limit {self._spec.max_tokens} tokens): found {len(encoding.ids)}"
            )
        tensors = {
            self._spec.ids: np.array([encoding.ids], np.int64),
            self._spec.mask: np.array([encoding.attention_mask], np.int64),
        }
        return Prepared(tensors, is_cut=bool(encoding.overflowing))

    def _encode(self, text: str) -> Encoding:
        if len(text) < _LONG_CHARS:
            return self._tokenizer.encode(text)
        return self._tokenizer.encode_batch_fast([text])[0]


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception for every fault of a file
        raise BadSpec(
            str(path), f"expected a tokenizer in tokenizers' JSON format, found: {error}"
        ) from None
