"""Running out of memory, told by what the runtimes say: they have few types of errors for it."""

import logging
import re
from collections.abc import Callable
from typing import TypeVar

from headrace.errors import OutOfMemory
from headrace_models.reasons import sentence

__all__ = ["within_memory"]

log = logging.getLogger(__name__)

# torch: "CUDA out of memory. Tried to allocate", "CUDA error: out of memory", "DefaultCPUAllocator: can't allocate
# memory", "CUBLAS_STATUS_ALLOC_FAILED when calling". ONNX Runtime, in RuntimeException, in Fail and, with bound memory,
# in RuntimeError: "CUDA failure 2: out of memory", "Failed to allocate memory for requested buffer of size",
# "std::bad_alloc", and where its arena is bounded "Available memory of 1 is smaller than requested bytes of 2".
_SAID = re.compile(
    r"out of memory|can't allocate memory|failed to allocate memory|is smaller than requested bytes of|bad_alloc"
    r"|bad allocation|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)

T = TypeVar("T")


def within_memory(run: Callable[..., T], *arguments: object) -> T:
    """What `run` gives. Raises OutOfMemory instead of a runtime's own error of that meaning."""
    try:
        return run(*arguments)
    except Exception as error:
        if not (isinstance(error, MemoryError) or _SAID.search(str(error))):
            raise
        log.warning("out of memory: %s", sentence(str(error)))
    # Not in the except clause: the new error would hold the old one, which holds the frames that hold the tensors, and
    # whoever tries half of the batch again would have less memory for it.
    raise OutOfMemory("the model needs more memory for this batch than its device has left")
