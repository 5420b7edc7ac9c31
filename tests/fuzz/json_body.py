"""Fuzzes JSON to tensors."""

import atheris

with atheris.instrument_imports(include=["headrace", "json"]):
    from tests.fuzz.codec import codec
    from tests.fuzz.driver import fuzz

_CODEC = codec()

if __name__ == "__main__":
    fuzz("json_body", lambda data: _CODEC.decode(data, None))
