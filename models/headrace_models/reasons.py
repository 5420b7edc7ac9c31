"""The part of an error's text that callers may see: one line, without paths and a runtime's C++."""

import re

__all__ = ["sentence", "without_paths"]

_MAX_CHARS = 200
_MAX_READ_CHARS = 4_000
_PATH = re.compile(r"(?<![\w.])/(?:[^\s/:\"']+/)+")
# ONNX Runtime's own: its kind of error, its action, and the line of its source with the function.
_KIND = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : (?:Load model from .*? failed:)?")
_SIGNATURE = r"[\w:~<>&*, ]*::[~\w]+\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])?"
_SOURCE = re.compile(rf"[^\s:]+\.(?:cc|cpp|cuh?|hp?p?):\d+ (?:{_SIGNATURE} |\w+ (?=[A-Z]))?")


def without_paths(text: str) -> str:
    """The text with every absolute path cut to its last name."""
    return _PATH.sub("", text)


def sentence(text: str) -> str:
    """The first line of a text, reduced to ONNX Runtime's own reason, in at most 200 characters."""
    line = (text.strip().splitlines() or ["no message"])[0][:_MAX_READ_CHARS]
    reason = _SOURCE.sub(" ", _KIND.sub("", line))
    return without_paths(" ".join(reason.split()))[:_MAX_CHARS]
