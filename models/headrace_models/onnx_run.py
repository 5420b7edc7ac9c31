"""Runs an ONNX Runtime session on numpy arrays of all datatypes, more than its own `run` takes.

Here and not with the backends, because `models add` and the zoo run a model before it is served.
"""

import ctypes
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from headrace_models.errors import BadInput
from headrace_models.spec import DTYPES

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue, RunOptions

__all__ = ["Arrays", "Run", "runner"]

Arrays = Mapping[str, npt.NDArray[Any]]

_BF16 = DTYPES["BF16"]
_BF16_IN_ONNX = 16  # TensorProto.BFLOAT16


class Run(Protocol):
    def __call__(
        self, inputs: Arrays, options: "RunOptions | None" = None, /
    ) -> dict[str, npt.NDArray[Any]]:
        """Raises soon after `terminate` is set in `options`."""
        ...


def runner(session: "InferenceSession", outputs: Sequence[str] = ()) -> Run:
    """Inputs by name -> `outputs` by name, or all of them.

    Texts are `bytes` in and `str` out, in arrays of objects. It raises BadInput for a text that is
    not UTF-8, and otherwise whatever the session raises.
    """
    inputs = session.get_inputs()
    names = list(outputs) or [output.name for output in session.get_outputs()]
    if any(value.type == "tensor(bfloat16)" for value in (*inputs, *session.get_outputs())):
        return partial(_run_with_bf16, session, names)
    if texts := [value.name for value in inputs if value.type == "tensor(string)"]:
        return partial(_run_with_texts, session, names, texts)
    return partial(_run, session, names)


def _run(
    session: "InferenceSession",
    names: Sequence[str],
    inputs: Arrays,
    options: "RunOptions | None" = None,
) -> dict[str, npt.NDArray[Any]]:
    return dict(zip(names, session.run(names, dict(inputs), options), strict=True))


def _run_with_texts(
    session: "InferenceSession",
    names: Sequence[str],
    texts: Sequence[str],
    inputs: Arrays,
    options: "RunOptions | None" = None,
) -> dict[str, npt.NDArray[Any]]:
    decoded = {name: _decoded(inputs[name], name) for name in texts}
    return _run(session, names, {**inputs, **decoded}, options)


def _decoded(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    # Of bytes the runtime would take the text that Python prints for them: "b'text'".
    try:
        texts = [element.decode() for element in array.ravel()]
    except UnicodeDecodeError:
        raise BadInput(f'input "{name}": expected UTF-8 text') from None
    return np.array(texts, object).reshape(array.shape)


def _run_with_bf16(
    session: "InferenceSession",
    names: Sequence[str],
    inputs: Arrays,
    options: "RunOptions | None" = None,
) -> dict[str, npt.NDArray[Any]]:
    # numpy has no BF16 of its own: the runtime takes and gives it as memory of its own type.
    given = {name: _value(array) for name, array in inputs.items()}
    values = session.run_with_ort_values(names, given, options)
    return {name: _array(value) for name, value in zip(names, values, strict=True)}


def _value(array: npt.NDArray[Any]) -> "OrtValue":
    # Not above: who only names this module needs no runtime.
    from onnxruntime import OrtValue

    array = np.asarray(array, order="C")  # which leaves a scalar one, as ascontiguousarray does not
    if array.dtype == _BF16:
        return OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), _BF16_IN_ONNX)
    return OrtValue.ortvalue_from_numpy(array)


def _array(value: "OrtValue") -> npt.NDArray[Any]:
    if value.element_type() != _BF16_IN_ONNX:
        array: npt.NDArray[Any] = value.numpy()
        return array
    copy = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(copy, _BF16).reshape(value.shape())
