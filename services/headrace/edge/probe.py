"""One HTTP request to a server, over the standard library: for health checks, scrapes and the
command line.
"""

import http.client
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

__all__ = ["Reply", "fetch"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer, whatever its status."""

    status: int
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object; {} if it is anything else."""
        try:
            found = orjson.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def reason(self) -> str:
        """The status, and the server's own sentence if it gave one."""
        sentence = self.document.get("error")
        return f"{self.status}, {sentence}" if isinstance(sentence, str) else str(self.status)


def fetch(
    url: str,
    timeout_s: float,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
) -> Reply:
    """GET `url`, or POST `body` to it.

    Raises OSError if no HTTP server answers; no wait is longer than `timeout_s`.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with closing(_connection(parts, timeout_s, context)) as connection:
            connection.request("GET" if body is None else "POST", target, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"{url}: expected an HTTP answer ({type(error).__name__})") from None


def _connection(
    url: SplitResult, timeout_s: float, context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    if url.scheme == "https":
        return http.client.HTTPSConnection(url.netloc, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(url.netloc, timeout=timeout_s)
