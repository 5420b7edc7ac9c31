"""Fuzzes binary tensors: the first line is Inference-Header-Content-Length, the rest a body."""

import atheris

with atheris.instrument_imports(include=["headrace", "json"]):
    from tests.fuzz.codec import codec
    from tests.fuzz.driver import fuzz

_CODEC, _FINITE = codec(), codec(finite=True)


def read(data: bytes) -> object:
    """Twice, the second time with a header that is remembered; and for a model of finite numbers.

    An empty length is the length of the body's JSON.
    """
    declared, _, body = data.partition(b"\n")
    length = declared.decode("latin-1") if declared else str(body.rfind(b"}") + 1)
    first = _CODEC.decode(body, length)
    return first, _CODEC.decode(body, length), _FINITE.decode(body, length)


if __name__ == "__main__":
    fuzz("binary_tensors", read)
