"""One HTTP request and its response: the body counted as it arrives, and what the headers ask for."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

from headrace.errors import BadRequest, ClientGone, TooLarge

__all__ = ["MAX_TIMEOUT_S", "Exchange", "Message", "Receive", "Response", "Scope"]

Scope = Mapping[str, Any]  # ASGI's own type: values differ by key
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MAX_TIMEOUT_S = 300.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Response(NamedTuple):
    """An answer as HTTP has it."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


class Exchange:
    """What a route sees of a request. Times are on the monotonic clock.

    `whole_body` is the body if all of it has come already. `model` and `version` are set by the route from the spec
    that it found, never from the request: they are labels.
    """

    def __init__(
        self, scope: Scope, receive: Receive, whole_body: bytes | None, request_id: str, max_body_bytes: int
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.params: Mapping[str, str] = {}
        self.model = self.version = ""
        self.began_s = monotonic()
        given = self.header(b"x-request-id")
        self.request_id = given if given and _REQUEST_ID.fullmatch(given) else request_id
        self._receive = receive
        self._whole_body = whole_body
        self._max_body_bytes = max_body_bytes

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def content_type(self) -> str:
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()

    def timeout_s(self, default_s: float) -> float:
        """What the caller allows, by X-Request-Timeout in seconds. Raises BadRequest if that is no such number."""
        text = self.header(b"x-request-timeout")
        if text is None:
            return default_s
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds <= MAX_TIMEOUT_S:
            raise BadRequest(f"X-Request-Timeout: expected seconds above 0 up to {MAX_TIMEOUT_S:g}")
        return seconds

    async def body(self) -> bytes:
        """The whole body. Raises TooLarge as soon as it passes the limit, ClientGone if the caller leaves."""
        if self._whole_body is not None:
            if len(self._whole_body) > self._max_body_bytes:
                raise self._too_large()
            return self._whole_body
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > self._max_body_bytes:
            raise self._too_large()
        chunks = bytearray()
        while (message := await self._receive())["type"] != "http.disconnect":
            chunks += message["body"]
            if len(chunks) > self._max_body_bytes:
                raise self._too_large()
            if not message["more_body"]:
                return bytes(chunks)
        raise ClientGone("the caller left before the body was whole")

    def _too_large(self) -> TooLarge:
        return TooLarge(f"body: expected at most {self._max_body_bytes} bytes, found more")
