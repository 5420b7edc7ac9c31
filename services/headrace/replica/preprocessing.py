"""Photos and texts of a request to the tensors of its rows, and what is wrong with them as errors of ours."""

import math
from collections.abc import Mapping

from headrace.errors import BadImage, BadRequest, ImageTooLarge
from headrace.replica.pool import Work
from headrace.tensor import Tensor, to_array
from headrace_models.errors import BadInput, OversizedImage, UnreadableImage
from headrace_models.preprocess import Prepared, Preprocessor

__all__ = ["preprocessing"]

_REFUSALS: Mapping[type[BadInput], type[BadRequest]] = {UnreadableImage: BadImage, OversizedImage: ImageTooLarge}


def preprocessing(preprocess: Preprocessor, raw: Tensor) -> Work[bytes, Prepared]:
    """Making each element of `raw` the tensors of one row; it raises BadRequest or one of its kind for a bad one."""

    def items() -> list[bytes]:
        elements: list[bytes] = to_array(raw).ravel().tolist()
        return elements

    def one(item: bytes) -> Prepared:
        try:
            return preprocess(item)
        except BadInput as error:
            raise _REFUSALS.get(type(error), BadRequest)(f'input "{raw.name}": {error}') from None

    return Work(items, one, math.prod(raw.shape), len(raw.data))
