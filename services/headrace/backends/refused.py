"""Inputs that a model does not take, told by what the runtimes say: they have no type of error for it."""

import re

from headrace_models.reasons import sentence

__all__ = ["reason_without_values", "refuses_inputs"]

# ONNX Runtime, in InvalidArgument: an index beyond a table (Gather, GatherND, ScatterElements), Gemm, Conv, Expand; in
# Fail: "Attempting to broadcast an axis by a dimension other than 1", "MatMul dimension mismatch", "cannot be reshaped
# to the requested shape", "Non concat axis dimensions must match", "Input cannot be split evenly", "Out of range value
# in index tensor", "k argument [5] should not be greater than specified axis dim value". torch: "index out of range in
# self", "The size of tensor a (3) must match the size of tensor b", "mat1 and mat2 shapes cannot be multiplied", "shape
# '[3]' is invalid for input of size 4".
_SAID = re.compile(
    r"INVALID_ARGUMENT|attempting to broadcast|dimension mismatch|cannot be reshaped|dimensions must match"
    r"|cannot be split evenly|out of range value in index|should not be greater than specified axis"
    r"|index out of range in self|must match the size of tensor|shapes cannot be multiplied"
    r"|is invalid for input of size",
    re.IGNORECASE,
)
# A number, alone or behind what it is the value of; those in names stay.
_NUMBER = re.compile(r"(?<![\w.])-?\d[\w.]*")


def refuses_inputs(error: Exception) -> bool:
    """Whether a runtime's error says that what was given does not fit: a value beyond a table, lengths that clash.

    In a batch that may be the fault of whoever put it together; of one request alone it is its caller's.
    """
    return bool(_SAID.search(str(error)))


def reason_without_values(error: Exception) -> str:
    """What a runtime says of inputs that do not fit, without the numbers in it: some are its callers'."""
    return _NUMBER.sub("#", sentence(str(error)))
