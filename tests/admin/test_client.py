"""The command line's requests to an admin port, and to other servers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from headrace.admin.client import read_health
from headrace.errors import StartFailed

HEALTH = b'{"replicas": [], "troubles": [], "missing": [], "processes": []}'


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Run a server that gives this answer to every request; gives its `host:port`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def refusal(admin: str) -> str:
    with pytest.raises(StartFailed) as said:
        read_health(admin, {})
    assert "\n" not in said.value.message
    return said.value.message


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/"])
def test_an_admin_port_is_given_by_address_or_url(form: str) -> None:
    with answering(200, HEALTH) as place:
        assert read_health(form.format(place), {})["missing"] == []


@pytest.mark.parametrize(
    "admin",
    [
        "https://127.0.0.1:8001",
        "127.0.0.1",
        "8001",
        "127.0.0.1:http",
        "[::1:8001",
        "http://127.0.0.1:8001/x",
        "",
    ],
)
def test_a_wrong_address_is_refused_with_the_form_that_is_expected(admin: str) -> None:
    assert refusal(admin) == f"--admin: expected HOST:PORT or http://HOST:PORT, found {admin}"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"error": "no such path", "code": "unknown_route"}'),  # the data port
        (404, b'{"error": {"message": "no such path"}}'),
        (404, b"<html>"),
        (200, b"ok"),
        (200, b"[]"),
        (200, b'{"status": "ok"}'),
    ],
)
def test_another_port_is_distinguished_from_an_admin_port(status: int, body: bytes) -> None:
    with answering(status, body) as place:
        assert refusal(place).startswith(f"{place} is not headrace's admin port")


@pytest.mark.parametrize("status", [401, 403])
def test_a_port_that_needs_a_key_says_which(status: int) -> None:
    with answering(status, b'{"error": "a key is needed"}') as place:
        assert refusal(place) == f"{place}: a key is needed; set HEADRACE_KEY to an admin's key"


@pytest.mark.parametrize(
    ("body", "said"), [(b'{"error": "not now"}', "not now"), (b"", "it answers 503")]
)
def test_a_refusal_is_passed_on(body: bytes, said: str) -> None:
    with answering(503, body) as place:
        assert refusal(place) == f"{place}: {said}"


def test_an_address_without_a_platform_is_named() -> None:
    with answering(200, HEALTH) as place:
        pass
    assert refusal(place) == f"no platform answers at {place}; start one with: headrace serve"
