"""One HTTP request and its response: what a route sees of the one, and what a connection writes of the other."""

import math
import re
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import NamedTuple, Protocol

from headrace.errors import BadRequest, HeadraceError

__all__ = ["MAX_TIMEOUT_S", "Application", "Exchange", "Response"]

MAX_TIMEOUT_S = 300.0
_MIN_TIMEOUT_S = 0.001
_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{1,64}")


class Response(NamedTuple):
    """An answer as HTTP has it."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


class Exchange:
    """What a route sees of a request whose head is whole. Times are on the monotonic clock.

    `headers` have lower-case names; one that came twice has its values joined by ", ", as HTTP defines. `params` are
    those of the path, percent-decoded; `query` is as it came, without its question mark. `api`, `model` and `version`
    are set by the application from what it found, never from the request: they are labels. `max_body_bytes` may be
    lowered or raised while the head is admitted. `began_s` is the end of the head; `received_s` the end of the body, or
    when the rest of that was given up.
    """

    __slots__ = (
        "began_s",
        "api",
        "handler",
        "headers",
        "key",
        "max_body_bytes",
        "method",
        "model",
        "params",
        "path",
        "peer",
        "query",
        "received_s",
        "request_id",
        "version",
    )

    def __init__(
        self, method: str, headers: dict[bytes, bytes], peer: str, max_body_bytes: int
    ) -> None:
        self.method = method
        self.headers = headers
        self.peer = peer
        self.max_body_bytes = max_body_bytes
        self.path = ""
        self.query = b""
        self.params: Mapping[str, str] = {}
        self.api = "none"
        self.model = self.version = ""
        self.request_id = ""
        self.handler: object = None
        self.key: object = None
        self.began_s = self.received_s = monotonic()

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def given_id(self) -> str:
        """The caller's own X-Request-Id if it is fit to be repeated, else nothing."""
        given = self.headers.get(b"x-request-id")
        return given.decode() if given and _REQUEST_ID.fullmatch(given) else ""

    @property
    def content_type(self) -> str:
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()

    def timeout_s(self, default_s: float) -> float:
        """What the caller allows, by X-Request-Timeout in seconds, clamped to 1 ms to MAX_TIMEOUT_S.

        Raises BadRequest if that is no number.
        """
        text = self.header(b"x-request-timeout")
        if text is None:
            return default_s
        try:
            seconds = float(text)
        except ValueError:
            seconds = float("nan")
        if not math.isfinite(seconds) or "_" in text:
            raise BadRequest("X-Request-Timeout: expected a number of seconds")
        return min(max(seconds, _MIN_TIMEOUT_S), MAX_TIMEOUT_S)


class Application(Protocol):
    """What a listener serves. Each exchange ends in exactly one of `answer` and `refuse`, or is told as `left`."""

    def admit(self, exchange: Exchange, target: bytes) -> None:
        """Look at a whole head before any of its body is read. Raises a HeadraceError to refuse the request."""
        ...

    async def answer(self, exchange: Exchange, body: bytes) -> Response:
        """The answer to an admitted request; its failures too are answers."""
        ...

    def refuse(self, exchange: Exchange, error: HeadraceError) -> Response:
        """The answer to a request that was not admitted, or that did not arrive as it should."""
        ...

    def left(self, exchange: Exchange) -> None:
        """The caller went away before its request was whole or taken up."""
        ...
