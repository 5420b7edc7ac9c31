"""One HTTP request over the standard library: answers of any status, and OSError where no HTTP
server answers.
"""

import socket
import threading

import pytest

from headrace.edge.probe import Reply, fetch

ANSWER = b'HTTP/1.1 503 Busy\r\nContent-Length: 20\r\n\r\n{"error": "not now"}'


def serve_once(answer: bytes) -> tuple[str, list[bytes], threading.Thread]:
    """A port that answers one connection; gives its address and the list that gets the request."""
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def answer_one() -> None:
        with listener, listener.accept()[0] as connection:
            received.append(connection.recv(4096))
            connection.sendall(answer)

    thread = threading.Thread(target=answer_one)
    thread.start()
    return f"127.0.0.1:{listener.getsockname()[1]}", received, thread


def test_an_answer_of_any_status_is_a_reply() -> None:
    address, received, thread = serve_once(ANSWER)
    reply = fetch(f"http://{address}/a?b=c", 5, headers={"X-Own": "1"})
    thread.join()
    assert (reply.status, reply.reason) == (503, "503, not now")
    assert received[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert b"X-Own: 1\r\n" in received[0]


def test_a_body_is_posted() -> None:
    address, received, thread = serve_once(ANSWER)
    fetch(f"http://{address}", 5, body=b"{}")
    thread.join()
    assert received[0].startswith(b"POST / HTTP/1.1\r\n")


@pytest.mark.parametrize("answer", [b"", b"220 mail.example ESMTP\r\n"])
def test_a_server_that_speaks_no_http_is_an_oserror(answer: bytes) -> None:
    address, _, thread = serve_once(answer)
    with pytest.raises(OSError, match=r".+"):
        fetch(f"http://{address}/", 5)
    thread.join()


@pytest.mark.parametrize("url", ["http://127.0.0.1:port/", "http://127.0.0.1:1/"])
def test_an_address_without_a_server_is_an_oserror(url: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        fetch(url, 5)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>"])
def test_a_body_that_is_no_json_object_is_an_empty_document(body: bytes) -> None:
    assert Reply(200, body).document == {}
