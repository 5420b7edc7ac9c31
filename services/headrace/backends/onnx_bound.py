"""Runs an ONNX Runtime session on inputs and outputs in the device's own memory."""

from collections.abc import Mapping, Sequence

import numpy as np
from cachetools import LRUCache
from onnxruntime import InferenceSession, OrtValue, RunOptions

from headrace.inference.tensor import Array
from headrace_models.onnx_run import Run, runner

__all__ = ["Bound", "device_runner"]

_FIRST_GPU = 0
# Values of these types cannot be bound from numpy.
_NOT_BOUND = frozenset({"tensor(string)", "tensor(bfloat16)"})
_Key = tuple[str, tuple[int, ...], str]


def device_runner(session: InferenceSession, outputs: Sequence[str], device: str) -> Run:
    """Inputs by name -> `outputs` by name, in memory of `device` ("cuda", "cpu") that is reused.

    A bound run takes one batch at a time. Texts and BF16 go through numpy instead, as everything
    does in `headrace_models.onnx_run`. Raises what its `runner` raises.
    """
    values = (*session.get_inputs(), *session.get_outputs())
    if any(value.type in _NOT_BOUND for value in values):
        return runner(session, outputs)
    return Bound(session, outputs, device)


class Bound:
    """Inputs by name -> outputs by name, one batch at a time.

    An input's memory on the device is kept by its shape, for the last `max_shapes` that were used;
    the runtime allocates the outputs, since only it knows their shapes.
    """

    def __init__(
        self, session: InferenceSession, names: Sequence[str], device: str, max_shapes: int = 32
    ) -> None:
        self._session = session
        self._names = list(names)
        self._device = device
        self._binding = session.io_binding()
        self._cached: LRUCache[_Key, OrtValue] = LRUCache(max_shapes)

    def __call__(
        self, inputs: Mapping[str, Array], options: RunOptions | None = None
    ) -> dict[str, Array]:
        for name, array in inputs.items():
            value = self._on_device(name, np.asarray(array, order="C"))
            self._binding.bind_ortvalue_input(name, value)
        for name in self._names:
            self._binding.bind_output(name, self._device, _FIRST_GPU)
        try:
            self._binding.synchronize_inputs()
            self._session.run_with_iobinding(self._binding, options)
            self._binding.synchronize_outputs()
            outputs = self._binding.get_outputs()
            return {n: value.numpy() for n, value in zip(self._names, outputs, strict=True)}
        finally:
            self._binding.clear_binding_inputs()
            self._binding.clear_binding_outputs()

    def _on_device(self, name: str, array: Array) -> OrtValue:
        key = (name, array.shape, array.dtype.str)
        value = self._cached.get(key)
        if value is None:
            value = self._cached[key] = OrtValue.ortvalue_from_shape_and_type(
                list(array.shape), array.dtype, self._device, _FIRST_GPU
            )
        value.update_inplace(array)
        return value
