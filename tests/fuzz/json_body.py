"""Fuzzes JSON to tensors."""

import atheris

with atheris.instrument_imports(include=["headrace", "json"]):
    from tests.fuzz.codec import codec
    from tests.fuzz.driver import fuzz

_CODEC, _FINITE = codec(), codec(finite=True)


def read(data: bytes) -> object:
    return _CODEC.decode(data, None), _FINITE.decode(data, None)


if __name__ == "__main__":
    fuzz("json_body", read)
