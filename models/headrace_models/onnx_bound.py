"""Runs an ONNX Runtime session on inputs and outputs in the device's own memory."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue, RunOptions

__all__ = ["Bound"]

_FIRST_GPU = 0
_Key = tuple[str, tuple[int, ...], str]


class Bound:
    """Inputs by name -> outputs by name, one batch at a time.

    An input's memory on the device is kept by its shape, for the `max_shapes` that were used last; the runtime makes
    the outputs', since only it knows their shapes.
    """

    def __init__(
        self, session: "InferenceSession", names: Sequence[str], device: str, max_shapes: int = 32
    ) -> None:
        self._session = session
        self._names = list(names)
        self._device = device
        self._max_shapes = max_shapes
        self._binding = session.io_binding()
        self._kept: OrderedDict[_Key, OrtValue] = OrderedDict()

    def __call__(
        self, inputs: Mapping[str, npt.NDArray[Any]], options: "RunOptions | None" = None
    ) -> dict[str, npt.NDArray[Any]]:
        for name, array in inputs.items():
            self._binding.bind_ortvalue_input(
                name, self._on_device(name, np.asarray(array, order="C"))
            )
        for name in self._names:
            self._binding.bind_output(name, self._device, _FIRST_GPU)
        try:
            self._binding.synchronize_inputs()
            self._session.run_with_iobinding(self._binding, options)
            self._binding.synchronize_outputs()
            return {
                name: v.numpy()
                for name, v in zip(self._names, self._binding.get_outputs(), strict=True)
            }
        finally:
            self._binding.clear_binding_inputs()
            self._binding.clear_binding_outputs()

    def _on_device(self, name: str, array: npt.NDArray[Any]) -> "OrtValue":
        from onnxruntime import OrtValue

        key = (name, array.shape, array.dtype.str)
        value = self._kept.pop(key, None)
        if value is None:
            value = OrtValue.ortvalue_from_shape_and_type(
                list(array.shape), array.dtype, self._device, _FIRST_GPU
            )
        value.update_inplace(array)
        self._kept[key] = value
        while len(self._kept) > self._max_shapes:
            self._kept.popitem(last=False)
        return value
