"""Fuzzes the other endpoints' JSON: classify and embeddings."""

import atheris

with atheris.instrument_imports(include=["headrace"]):
    from tests.fuzz.driver import fuzz

    from headrace.gateway.api.classify import ClassifyBody
    from headrace.gateway.api.embeddings import EmbeddingsBody
    from headrace.gateway.api.small_bodies import read_json


def read(data: bytes) -> object:
    """The first byte chooses the endpoint."""
    if data[:1] == b"e":
        return read_json(EmbeddingsBody, data[1:]).input
    return read_json(ClassifyBody, data[1:]).items()


if __name__ == "__main__":
    fuzz("other_endpoints", read)
