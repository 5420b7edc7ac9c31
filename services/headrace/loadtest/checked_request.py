"""A request that is ready to be sent, with a check of its answer's content."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import JSONDecoder

import numpy as np
import numpy.typing as npt
import orjson

from headrace.errors import BadRequest
from headrace.inference.tensor import Array, Tensor, from_array, to_array
from headrace_models.golden import difference

__all__ = ["CheckedRequest", "infer_request", "read_binary", "tensors_request"]

_INFER_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class CheckedRequest:
    """One POST. `is_right` checks the body of a 200.

    For malformed bodies it may raise ValueError, LookupError, TypeError, AttributeError or
    BadRequest.
    """

    model: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    is_right: Callable[[bytes], bool]

    def accepts(self, answer: bytes) -> bool:
        """True if this is the right answer to this request."""
        try:
            return self.is_right(answer)
        except (ValueError, LookupError, TypeError, AttributeError, BadRequest):
            return False


def infer_request(
    model: str,
    inputs: Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]],
    output: str,
    expected: npt.NDArray[np.float32],
) -> CheckedRequest:
    """Binary tensors in, one output as JSON out, which must be `expected` within a thousandth."""

    def is_right(answer: bytes) -> bool:
        found = orjson.loads(answer)["outputs"][0]
        data = np.array(found["data"], np.float64)
        return found["name"] == output and not difference(data, expected.ravel(), _INFER_TOLERANCE)

    return _infer(model, inputs, {"outputs": [{"name": output}]}, is_right)


def tensors_request(
    model: str, inputs: Mapping[str, Array], expected: Mapping[str, Array] | None, tolerance: float
) -> CheckedRequest:
    """Binary tensors in and out, of any datatype, which must be `expected`: names, datatypes,
    shapes and values.

    Values may differ by `tolerance`, relative or absolute. Without `expected` any answer in this
    form is right.
    """

    def is_right(answer: bytes) -> bool:
        name, found = read_binary(answer)
        return name == model and (expected is None or _agree(found, expected, tolerance))

    return _infer(model, inputs, {"parameters": {"binary_data_output": True}}, is_right)


def read_binary(answer: bytes) -> tuple[str, dict[str, Array]]:
    """The model's name and the outputs of an infer answer whose outputs are all binary.

    Raises ValueError, LookupError, TypeError, AttributeError or BadRequest for any other answer.
    """
    # One character per byte, so that the end of the JSON is its length in bytes.
    _, offset = JSONDecoder().raw_decode(answer.decode("latin-1"))
    header = orjson.loads(answer[:offset])
    found: dict[str, Array] = {}
    for output in header["outputs"]:
        end = offset + output["parameters"]["binary_data_size"]
        tensor = Tensor(
            output["name"], output["datatype"], tuple(output["shape"]), answer[offset:end]
        )
        found[tensor.name] = to_array(tensor)
        offset = end
    if offset != len(answer):
        raise ValueError(f"expected {offset} bytes, found {len(answer)}")
    return header["model_name"], found


def _agree(found: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == array.dtype and not difference(found[name], array, tolerance)
        for name, array in expected.items()
    )


def _infer(
    model: str,
    inputs: Mapping[str, Array],
    options: Mapping[str, object],
    is_right: Callable[[bytes], bool],
) -> CheckedRequest:
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
    header = orjson.dumps({"inputs": listed, **options})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }
    body = b"".join((header, *(t.data for t in tensors)))
    return CheckedRequest(model, f"/v2/models/{model}/infer", headers, body, is_right)
