"""Fuzzes the binary tensor extension: a line with the header's length, then a body."""

import atheris

with atheris.instrument_imports(include=["headrace", "json"]):
    from tests.fuzz.codec import codec
    from tests.fuzz.driver import fuzz

_CODEC, _FINITE = codec(), codec(finite=True)


def read(data: bytes) -> object:
    """Twice, the second time with a header that is remembered; and for a model of finite numbers.

    An empty length is the length of the body's JSON.
    """
    said, _, body = data.partition(b"\n")
    length = said.decode("latin-1") if said else str(body.rfind(b"}") + 1)
    first = _CODEC.decode(body, length)
    return first, _CODEC.decode(body, length), _FINITE.decode(body, length)


if __name__ == "__main__":
    fuzz("binary_tensors", read)
