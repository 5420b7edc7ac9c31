"""One HTTP request and its response, over ASGI: the body counted as it arrives, the deadline, the caller's leaving."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from headrace.errors import BadRequest, ClientGone, TooLarge

__all__ = ["Exchange", "Message", "Receive", "Response", "Scope"]

A = TypeVar("A")

Scope = Mapping[str, Any]  # ASGI's own type: values differ by key
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MAX_TIMEOUT_S = 300.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
# Answers are mostly sooner than this; only for slower ones is it worth watching whether the caller stays.
_WATCH_AFTER_S = 0.05


class Response(NamedTuple):
    """An answer as HTTP has it."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


class Exchange:
    """What a route sees of a request. Times are on the monotonic clock.

    `model` and `version` are set by the route from the spec that it found, never from the request: they are labels.
    """

    def __init__(self, scope: Scope, receive: Receive, request_id: str, max_body_bytes: int) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.params: Mapping[str, str] = {}
        self.model = self.version = ""
        self.began_s = monotonic()
        given = self.header(b"x-request-id")
        self.request_id = given if given and _REQUEST_ID.fullmatch(given) else request_id
        self._receive = receive
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
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > self._max_body_bytes:
            raise self._too_large()
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return self._bounded(message["body"])
        chunks = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone("the caller left before the body was whole")
            chunks += message["body"]
            self._bounded(chunks)
            if not message.get("more_body"):
                return bytes(chunks)
            message = await self._receive()

    def _bounded(self, body: bytes | bytearray) -> bytes:
        if len(body) > self._max_body_bytes:
            raise self._too_large()
        return body if isinstance(body, bytes) else b""

    def _too_large(self) -> TooLarge:
        return TooLarge(f"body: expected at most {self._max_body_bytes} bytes, found more")

    async def unless_left(self, answer: Awaitable[A]) -> A:
        """The answer; or ClientGone, and the answer cancelled, if the caller leaves before it is there."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        leaving: asyncio.Task[None] | None = None

        def watch() -> None:
            nonlocal leaving
            leaving = loop.create_task(self._cancel_when_left(task))

        timer = loop.call_later(_WATCH_AFTER_S, watch)
        try:
            return await answer
        except asyncio.CancelledError:
            if leaving is None or not leaving.done():
                raise
            task.uncancel()
            raise ClientGone("the caller left before the answer") from None
        finally:
            timer.cancel()
            if leaving is not None:
                leaving.cancel()

    async def _cancel_when_left(self, task: "asyncio.Task[Any]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        task.cancel()
