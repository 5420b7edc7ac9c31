"""A request that is ready to be sent, with the means to tell a right answer by its content."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import JSONDecoder

import numpy as np
import numpy.typing as npt
import orjson

from headrace.errors import BadRequest
from headrace.inference.tensor import Array, Tensor, from_array, to_array
from headrace_models.golden import difference

__all__ = ["Shot", "infer_shot", "read_binary", "tensors_shot"]

_INFER_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Shot:
    """One POST. `is_right` reads the body of a 200.

    On nonsense it may raise ValueError, LookupError, TypeError, AttributeError or BadRequest.
    """

    model: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    is_right: Callable[[bytes], bool]

    def accepts(self, answer: bytes) -> bool:
        """Whether this is the right answer to this request."""
        try:
            return self.is_right(answer)
        except (ValueError, LookupError, TypeError, AttributeError, BadRequest):
            return False


def infer_shot(
    model: str,
    inputs: Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]],
    output: str,
    expected: npt.NDArray[np.float32],
) -> Shot:
    """Binary tensors in, one output as JSON out; right is `expected` in it, within a thousandth."""

    def is_right(answer: bytes) -> bool:
        found = orjson.loads(answer)["outputs"][0]
        data = np.array(found["data"], np.float64)
        return found["name"] == output and not difference(data, expected.ravel(), _INFER_TOLERANCE)

    return _infer(model, inputs, {"outputs": [{"name": output}]}, is_right)


def tensors_shot(
    model: str, inputs: Mapping[str, Array], expected: Mapping[str, Array] | None, tolerance: float
) -> Shot:
    """Binary tensors in and out, of any datatype; right are all of `expected`, names, datatypes and shapes too.

    Values may differ by `tolerance`, relative or absolute. Without `expected` any answer in this form is right.
    """

    def is_right(answer: bytes) -> bool:
        name, found = read_binary(answer)
        return name == model and (expected is None or _agree(found, expected, tolerance))

    return _infer(model, inputs, {"parameters": {"binary_data_output": True}}, is_right)


def read_binary(answer: bytes) -> tuple[str, dict[str, Array]]:
    """The model's name and the outputs of an infer answer whose outputs are all binary.

    Raises ValueError, LookupError, TypeError, AttributeError or BadRequest if it is no such answer.
    """
    # One character a byte, so that the header's end is its length, which only the HTTP header says otherwise.
    _, place = JSONDecoder().raw_decode(answer.decode("latin-1"))
    header = orjson.loads(answer[:place])
    found: dict[str, Array] = {}
    for output in header["outputs"]:
        end = place + output["parameters"]["binary_data_size"]
        tensor = Tensor(
            output["name"], output["datatype"], tuple(output["shape"]), answer[place:end]
        )
        found[tensor.name] = to_array(tensor)
        place = end
    if place != len(answer):
        raise ValueError(f"expected {place} bytes, found {len(answer)}")
    return header["model_name"], found


def _agree(found: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == array.dtype and not difference(found[name], array, tolerance)
        for name, array in expected.items()
    )


def _infer(
    model: str,
    inputs: Mapping[str, Array],
    wishes: Mapping[str, object],
    is_right: Callable[[bytes], bool],
) -> Shot:
    tensors = [from_array(name, array) for name, array in inputs.items()]
    listed = [
        {
            "name": t.name,
            "datatype": t.datatype,
            "shape": t.shape,
            "parameters": {"binary_data_size": len(t.data)},
        }
        for t in tensors
    ]
    header = orjson.dumps({"inputs": listed, **wishes})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }
    body = b"".join((header, *(t.data for t in tensors)))
    return Shot(model, f"/v2/models/{model}/infer", headers, body, is_right)
