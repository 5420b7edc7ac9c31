"""A lane of torch: a stream of the GPU, and pinned memory between it and numpy."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from headrace.inference.tensor import Array

__all__ = ["StagedLane"]

# A larger tensor goes without pinned memory, which is taken from the whole machine and kept.
MAX_STAGED_BYTES = 64 << 20

Module = Callable[..., Sequence[torch.Tensor]]


class StagedLane:
    """Runs one batch at a time; the next one may come as soon as `run` has ended, however it ended.

    On another device than CUDA there is neither stream nor pinned memory, and the rest is the same.
    """

    def __init__(
        self, module: Module, device: str, max_staged_bytes: int = MAX_STAGED_BYTES
    ) -> None:
        self._module = module
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream() if device == "cuda" else None  # type: ignore[no-untyped-call]  # torch says no types here
        self._inputs = _Staging(device == "cuda", max_staged_bytes)
        self._outputs = _Staging(device == "cuda", max_staged_bytes)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Inputs of the module, in order -> its outputs, in order, in memory of their own."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            try:
                tensors = [self._to_device(index, array) for index, array in enumerate(inputs)]
                copies = [self._to_host(index, t) for index, t in enumerate(self._module(*tensors))]
            finally:
                self._wait()
        # Copied once more: an answer may wait to be sent for longer than the next batch takes.
        return [copy.numpy().copy() for copy in copies]

    def _to_device(self, index: int, array: Array) -> torch.Tensor:
        staged = self._inputs.take(index, array.shape, _dtype_of(array))
        np.copyto(staged.numpy(), array)
        return staged.to(self._device, non_blocking=True)

    def _to_host(self, index: int, output: torch.Tensor) -> torch.Tensor:
        return self._outputs.take(index, tuple(output.shape), output.dtype).copy_(
            output, non_blocking=True
        )

    def _wait(self) -> None:
        """Until all that this lane asked for is done; the thread sleeps meanwhile, and lets others run."""
        if self._stream is not None:
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # nor here
            done.record(self._stream)
            done.synchronize()


class _Staging:
    """Memory by index, used again for every shape: each piece grows to the next power of two of bytes, to a bound."""

    def __init__(self, is_pinned: bool, max_bytes: int) -> None:
        self._is_pinned = is_pinned
        self._max_bytes = max_bytes
        self._pieces: dict[int, torch.Tensor] = {}

    def take(self, index: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor in host memory; the one taken before at this index is gone."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if nbytes > self._max_bytes:
            return torch.empty(tuple(shape), dtype=dtype)
        piece = self._pieces.get(index)
        if piece is None or len(piece) < nbytes:
            room = 1 << max(nbytes - 1, 1).bit_length()
            piece = self._pieces[index] = torch.empty(
                room, dtype=torch.uint8, pin_memory=self._is_pinned
            )
        return piece[:nbytes].view(dtype).view(tuple(shape))


def _dtype_of(array: Array) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype
