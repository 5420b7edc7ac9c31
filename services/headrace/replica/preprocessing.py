"""Photos and texts of a request to the tensors of its rows, and what is wrong with them as errors of ours."""

from collections.abc import Mapping

from headrace.errors import BadImage, BadRequest, ImageTooLarge
from headrace.replica.assembly import Part
from headrace.tensor import Tensor, to_array
from headrace_models.errors import BadInput, OversizedImage, UnreadableImage
from headrace_models.preprocess import Preprocessor

__all__ = ["preprocessed"]

_REFUSALS: Mapping[type[BadInput], type[BadRequest]] = {UnreadableImage: BadImage, OversizedImage: ImageTooLarge}


def preprocessed(preprocess: Preprocessor, raw: Tensor) -> list[Part]:
    """Each element of `raw` as a part of one row. Raises BadRequest or one of its kind for the first that is wrong."""
    try:
        return [preprocess(item) for item in to_array(raw).ravel()]
    except BadInput as error:
        raise _REFUSALS.get(type(error), BadRequest)(f'input "{raw.name}": {error}') from None
