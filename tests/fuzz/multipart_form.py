"""Fuzzes the reading of forms: the first line is the content type, the rest the body."""

import importlib

import atheris

with atheris.instrument_imports(include=["headrace"]):
    from tests.fuzz.driver import fuzz

    _FORM = importlib.import_module("headrace.gateway.wire.multipart")


def read(data: bytes) -> object:
    content_type, _, body = data.partition(b"\n")
    return _FORM.file_and_field(content_type.decode("latin-1"), body, "top_k")


if __name__ == "__main__":
    fuzz("multipart_form", read)
