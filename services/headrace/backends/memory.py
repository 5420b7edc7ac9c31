"""Tells by an error's text that a runtime is out of memory: few have a type for it."""

import logging
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from headrace.errors import OutOfMemory
from headrace_models.reasons import sentence

__all__ = ["within_memory"]

log = logging.getLogger(__name__)

# torch: "CUDA out of memory. Tried to allocate", "CUDA error: out of memory", "DefaultCPUAllocator:
# can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED when calling". ONNX Runtime, in
# RuntimeException, in Fail and, with bound memory, in RuntimeError: "CUDA failure 2: out of
# memory", "Failed to allocate memory for requested buffer of size", "std::bad_alloc", and where its
# arena is bounded "Available memory of 1 is smaller than requested bytes of 2".
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|failed to allocate memory"
    r"|is smaller than requested bytes of|bad_alloc|bad allocation|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)

P = ParamSpec("P")
T = TypeVar("T")


def within_memory(run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `run`. Raises OutOfMemory instead of a runtime's own error of that meaning."""
    try:
        return run(*args, **kwargs)
    except Exception as error:
        if not (isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error))):
            raise
        log.warning("out of memory: %s", sentence(str(error)))
    # Not in the except clause: the new error would hold the old one, which holds the frames that
    # hold the tensors, and a second try with half of the batch would have less memory.
    raise OutOfMemory("the model needs more memory for this batch than its device has left")
