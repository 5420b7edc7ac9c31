"""Tells by an error's text that inputs do not fit a model: runtimes have no type for it."""

import re

from headrace_models.reasons import sentence

__all__ = ["reason_without_values", "refuses_inputs"]

# ONNX Runtime, in InvalidArgument: an index beyond a table (Gather, GatherND, ScatterElements),
# Gemm, Conv, Expand; in Fail: "Attempting to broadcast an axis by a dimension other than 1",
# "MatMul dimension mismatch", "cannot be reshaped to the requested shape", "Non concat axis
# dimensions must match", "Input cannot be split evenly", "Out of range value in index tensor", "k
# argument [5] should not be greater than specified axis dim value". torch: "index out of range in
# self", "The size of tensor a (3) must match the size of tensor b", "mat1 and mat2 shapes cannot be
# multiplied", "shape '[3]' is invalid for input of size 4".
_MESSAGES = re.compile(
    r"INVALID_ARGUMENT|attempting to broadcast|dimension mismatch|cannot be reshaped"
    r"|dimensions must match|cannot be split evenly|out of range value in index"
    r"|should not be greater than specified axis|index out of range in self"
    r"|must match the size of tensor|shapes cannot be multiplied|is invalid for input of size",
    re.IGNORECASE,
)
# A number by itself or after a label. Digits inside names stay.
_NUMBER = re.compile(r"(?<![\w.])-?\d[\w.]*")


def refuses_inputs(error: Exception) -> bool:
    """A runtime's error means unfit inputs: a value beyond a table, lengths that clash.

    In a batch that may be the fault of the batching; for one request alone it is the caller's.
    """
    return bool(_MESSAGES.search(str(error)))


def reason_without_values(error: Exception) -> str:
    """A runtime's message on inputs that do not fit, without numbers: some are callers' values."""
    return _NUMBER.sub("#", sentence(str(error)))
