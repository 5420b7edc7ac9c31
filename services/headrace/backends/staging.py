"""A lane for torch: a stream of the GPU, and pinned memory between it and numpy."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from headrace.inference.tensor import Array

__all__ = ["StagedLane"]

# Larger tensors do without pinned memory, which the whole machine lacks while it is held.
MAX_STAGED_BYTES = 64 << 20

Module = Callable[..., Sequence[torch.Tensor]]


class StagedLane:
    """Runs one batch at a time; the next may come once `run` has ended, however it ended.

    On another device than CUDA there is neither a stream nor pinned memory.
    """

    def __init__(
        self, module: Module, device: str, max_staged_bytes: int = MAX_STAGED_BYTES
    ) -> None:
        self._module = module
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream() if device == "cuda" else None  # type: ignore[no-untyped-call]  # untyped in torch
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
        """Wait for all work of this lane; the thread sleeps, so that others can run."""
        if self._stream is not None:
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # untyped in torch
            done.record(self._stream)
            done.synchronize()


class _Staging:
    """Host memory by index, reused for all shapes.

    A piece grows to the next power of two of bytes, up to `max_bytes`.
    """

    def __init__(self, is_pinned: bool, max_bytes: int) -> None:
        self._is_pinned = is_pinned
        self._max_bytes = max_bytes
        self._pieces: dict[int, torch.Tensor] = {}

    def take(self, index: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor in host memory.

        It replaces the one taken before at this index.
        """
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
