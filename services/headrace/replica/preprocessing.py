"""Photos and texts of a request to the tensors of its rows, and what is wrong with them as errors of ours."""

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
    """Making each element of `raw` the tensors of one row; it raises BadRequest or one of its kind for a bad one.

    Of several, the error says which: as all endpoints call them, `input[2]`, counted from 0.
    """
    count = math.prod(raw.shape)

    def items() -> list[tuple[int, bytes]]:
        return list(enumerate(to_array(raw).ravel().tolist()))

    def one(item: tuple[int, bytes]) -> Prepared:
        place, content = item
        try:
            return preprocess(content)
        except BadInput as error:
            where = f"input[{place}]" if count > 1 else f'input "{raw.name}"'
            raise _REFUSALS.get(type(error), BadRequest)(f"{where}: {error}") from None

    return Work(items, one, count, len(raw.data))
