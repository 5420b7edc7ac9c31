"""One HTTP request on a connection of its own, by the standard library."""

import http.client
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from loadtests.support.ports import HOST

__all__ = ["HttpAnswer", "http_request", "status_of", "wait_until"]

_POLL_S = 0.005


@dataclass(frozen=True)
class HttpAnswer:
    """An HTTP answer. The names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body if it is JSON, else None."""
        is_json = self.headers.get("content-type") == "application/json"
        return orjson.loads(self.body) if is_json and self.body else None


def http_request(
    address: int | str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = 20.0,
    tls: ssl.SSLContext | None = None,
) -> HttpAnswer:
    """Send to `host:port` or a local port. Raises OSError or HTTPException without an answer."""
    target = f"{HOST}:{address}" if isinstance(address, int) else address
    connection = (
        http.client.HTTPSConnection(target, timeout=timeout_s, context=tls)
        if tls
        else http.client.HTTPConnection(target, timeout=timeout_s)
    )
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        answer = connection.getresponse()
        lowered = {name.lower(): value for name, value in answer.getheaders()}
        return HttpAnswer(answer.status, lowered, answer.read())
    finally:
        connection.close()


def status_of(
    address: int | str, path: str, *, timeout_s: float = 20.0, tls: ssl.SSLContext | None = None
) -> int:
    """The status of a GET, 0 if the server does not answer."""
    try:
        return http_request(address, "GET", path, timeout_s=timeout_s, tls=tls).status
    except (OSError, http.client.HTTPException):
        return 0


def wait_until(condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
    """Poll until the condition holds. Raises TimeoutError(complaint)."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError(complaint)
        time.sleep(_POLL_S)
