"""Fuzzes the reader of connections: the first byte chooses the cuts, which change nothing."""

import random

import atheris

with atheris.instrument_imports(include=["headrace"]):
    from tests.edge.receiving import cut, outcome
    from tests.fuzz.driver import fuzz

Request = tuple[str, dict[bytes, bytes], bytes, str, bool]


def read(data: bytes) -> None:
    """Whole and in pieces: the same requests, the same end, and nothing left behind."""
    stream = data[1:]
    assert requests_of([stream]) == requests_of(cut(stream, random.Random(data[:1])))


def requests_of(pieces: list[bytes]) -> tuple[list[Request], bool]:
    """The requests that were read, and whether the connection ended in an error."""
    found = outcome(pieces)
    assert found.end != "broken" or b"/broken" in b"".join(pieces)
    requests = []
    for received in found.received:
        exchange = received.exchange
        code = received.error.code if received.error else ""
        requests.append((exchange.method, exchange.headers, received.body, code, received.keep))
    return requests, bool(found.end)


if __name__ == "__main__":
    fuzz("http_head", read)
