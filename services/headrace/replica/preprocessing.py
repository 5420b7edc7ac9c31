"""The preprocessing of a request's photos or texts, with errors of our own."""

import math
from collections.abc import Mapping

from headrace.errors import BadImage, BadRequest, ImageTooLarge
from headrace.inference.tensor import Tensor, to_array
from headrace.replica.pool import Work
from headrace_models.errors import BadInput, OversizedImage, UnreadableImage
from headrace_models.preprocess import Prepared, Preprocessor

__all__ = ["preprocessing"]

_REFUSALS: Mapping[type[BadInput], type[BadRequest]] = {
    UnreadableImage: BadImage,
    OversizedImage: ImageTooLarge,
}


def preprocessing(preprocess: Preprocessor, raw: Tensor) -> Work[tuple[int, bytes], Prepared]:
    """The work of making each element of `raw` the tensors of one row.

    It raises BadRequest or a subclass for a bad element, which the error names as all endpoints do:
    `input[2]`, counted from 0.
    """
    count = math.prod(raw.shape)

    def items() -> list[tuple[int, bytes]]:
        return list(enumerate(to_array(raw).ravel().tolist()))

    def one(item: tuple[int, bytes]) -> Prepared:
        index, content = item
        try:
            return preprocess(content)
        except BadInput as error:
            where = f"input[{index}]" if count > 1 else f'input "{raw.name}"'
            raise _REFUSALS.get(type(error), BadRequest)(f"{where}: {error}") from None

    return Work(items=items, one=one, count=count, nbytes=len(raw.data))
