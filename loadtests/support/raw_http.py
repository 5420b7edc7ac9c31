"""A caller over a raw socket: sends any bytes, and reads answers with the standard library."""

import http.client
import io
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal

import orjson
from loadtests.support.bad_inputs.catalogue import NO_ANSWER, Then

__all__ = ["Answer", "call", "converse"]

TIMEOUT_S = 5.0
_DRIP_S = 0.02
_AGAIN = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: again\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """An answer. `is_open`: the connection answered once more; `rest`: bytes not asked for."""

    status: int
    headers: dict[str, str]
    body: bytes
    had_interim: bool
    is_open: bool
    rest: bytes

    @property
    def code(self) -> str:
        """The error's code, which OpenAI's endpoint has in an object of its own."""
        document = orjson.loads(self.body)
        code: str = (document["error"] if isinstance(document["error"], dict) else document)["code"]
        return code


class _Stream(io.BufferedReader):
    """A file for http.client to read from. It stays open after an answer, for what may follow."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(socket.SocketIO(sock, "rb"))

    def makefile(self, _: str) -> "_Stream":
        return self

    def close(self) -> None: ...


def call(
    port: int, sent: bytes, then: Then = "listen", probe: Literal["again", "end", "none"] = "none"
) -> Answer:
    """Send and read one answer; then `probe`: send "again" on it, or wait for its "end"."""
    with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT_S)) as sock:
        answered = threading.Event()
        sender = threading.Thread(target=_send, args=(sock, sent, then, answered))
        sender.start()
        try:
            return _NOTHING if then == "reset" else _read(sock, probe)
        finally:
            answered.set()
            sender.join(TIMEOUT_S)
            if then == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def converse(port: int, sent: bytes, then: Then = "listen") -> list[Answer]:
    """All answers to `sent` and one more request, up to that one's or the end."""
    with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT_S)) as sock:
        answered = threading.Event()
        sender = threading.Thread(target=_send, args=(sock, sent, then, answered))
        sender.start()
        try:
            return list(_converse(sock, _Stream(sock), answered))
        finally:
            answered.set()
            sender.join(TIMEOUT_S)


def _converse(sock: socket.socket, stream: _Stream, answered: threading.Event) -> Iterator[Answer]:
    with suppress(ConnectionError, http.client.RemoteDisconnected):
        while True:
            had_interim = stream.peek(16).startswith(b"HTTP/1.1 100")
            status, headers, body = _answer(stream)
            is_last = headers.get("x-request-id") == "again"
            yield Answer(status, headers, body, had_interim, is_last, b"")
            if is_last:
                return
            if not answered.is_set():
                answered.set()
                with suppress(OSError):
                    sock.sendall(_AGAIN)


_NOTHING = Answer(NO_ANSWER, {}, b"", had_interim=False, is_open=False, rest=b"")


def _send(sock: socket.socket, sent: bytes, then: Then, answered: threading.Event) -> None:
    """Send all. A server may answer and close before it has read everything."""
    with suppress(OSError):
        if then == "drip":
            for byte in sent:
                if answered.wait(_DRIP_S):
                    return
                sock.sendall(bytes([byte]))
        else:
            sock.sendall(sent)
        if then == "half_close":
            sock.shutdown(socket.SHUT_WR)


def _read(sock: socket.socket, probe: str) -> Answer:
    stream = _Stream(sock)
    try:
        had_interim = stream.peek(16).startswith(b"HTTP/1.1 100")
        status, headers, body = _answer(stream)
    except (ConnectionError, http.client.RemoteDisconnected):
        return _NOTHING
    if probe == "none":
        return Answer(status, headers, body, had_interim, is_open=False, rest=b"")
    if probe == "again":
        return Answer(status, headers, body, had_interim, _answers_again(sock, stream), rest=b"")
    return Answer(status, headers, body, had_interim, *_end(stream))


def _answer(stream: _Stream) -> tuple[int, dict[str, str], bytes]:
    response = http.client.HTTPResponse(stream)  # type: ignore[arg-type]  # it asks for no more than makefile
    response.begin()
    return (
        response.status,
        {name.lower(): value for name, value in response.getheaders()},
        response.read(),
    )


def _answers_again(sock: socket.socket, stream: _Stream) -> bool:
    try:
        sock.sendall(_AGAIN)
        return _answer(stream)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _end(stream: _Stream) -> tuple[bool, bytes]:
    """Wait for the end of the connection: true if it is still open, and the bytes received."""
    try:
        return False, stream.read()
    except TimeoutError:
        return True, b""
    except ConnectionError:
        return False, b""
