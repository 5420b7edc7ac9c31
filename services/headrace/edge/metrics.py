"""A process's metrics over HTTP, with connections, threads and time bounded as on any port."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from types import TracebackType

from headrace.edge.application import RoutedApplication
from headrace.edge.exchange import Call, Exchange, Response, Route
from headrace.edge.limits import EdgeLimits
from headrace.edge.names import Names, host_port, is_loopback, own_names
from headrace.edge.readers import Readers
from headrace.edge.server import listen, serve_http
from headrace.errors import Forbidden, Unauthorized
from headrace.keys import KeyRing, follow
from headrace.process.background import background
from headrace.telemetry.exposition import Page, Render, form_of

__all__ = ["LIMITS", "expose"]

# A scraper needs one connection. The others are for callers who hold one and send nothing: those
# cost no thread, give way to new ones and end soon, and one address leaves room for others.
LIMITS = EdgeLimits(
    max_body_bytes=1024,
    max_bodies_bytes=64 << 10,
    head_timeout_s=5.0,
    body_timeout_s=5.0,
    keep_alive_s=15.0,
    write_timeout_s=10.0,
    max_pipelined=1,
    max_connections=512,
    max_connections_per_peer=384,
)
_DRAIN_S = 1.0


@asynccontextmanager
async def expose(render: Render, host: str, readers: Readers) -> AsyncIterator[str]:
    """Serve the page that `render` makes on a free port of `host`; yields `host:port`."""
    sock = listen(host, 0)
    stop = asyncio.Event()
    is_open = readers.is_open or is_loopback(host)
    async with AsyncExitStack() as stack:
        page = stack.enter_context(_SharedPage(render))
        policy = _ReadersAlone(readers, is_open=is_open)
        if readers.keys and not is_open:
            background(stack, follow(policy.keys, readers.keys))
        names = Names(own_names(host, ()))
        route = Route(method="GET", template="/metrics", api="metrics", handler=_metrics)
        app = RoutedApplication([route], page, policy, names)
        serving = asyncio.create_task(serve_http(app, sock, stop, LIMITS, drain_s=_DRAIN_S))
        try:
            yield host_port(host, sock.getsockname()[1])
        finally:
            stop.set()
            await serving


async def _metrics(call: Call["_SharedPage"]) -> Response:
    header = call.exchange.header
    made = await call.context.get(header(b"accept"), header(b"accept-encoding"))
    return Response(200, made.content, made.content_type.encode(), made.headers)


class _SharedPage:
    """Makes pages in one thread, one at a time; callers share a page that is not begun yet."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._waiting: dict[tuple[str, str], Future[Page]] = {}

    def __enter__(self) -> "_SharedPage":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def get(self, accept: str | None, accept_encoding: str | None) -> Page:
        """A page of now or later, in the wanted form: there are few, whatever the headers say."""
        wanted = form_of(accept, accept_encoding)
        page = self._waiting.get(wanted)
        if page is None:
            page = self._waiting[wanted] = Future()
            self._thread.submit(self._make, wanted, page)
        return await asyncio.shield(asyncio.wrap_future(page))

    def _make(self, wanted: tuple[str, str], page: Future[Page]) -> None:
        # Later callers may want what is counted from now on, which this page may not have.
        del self._waiting[wanted]
        try:
            page.set_result(self._render(*wanted))
        except Exception as error:
            page.set_exception(error)


class _ReadersAlone:
    """The policy of a metrics port."""

    def __init__(self, readers: Readers, *, is_open: bool) -> None:
        self.keys = KeyRing(())  # filled by the task that follows the file
        self._has_keys = readers.keys is not None
        self._own = f"Bearer {readers.token}".encode() if readers.token else b""
        self._is_open = is_open

    def admit(self, exchange: Exchange) -> None:
        presented = exchange.header(b"authorization")
        if self._is_open or (
            self._own and hmac.compare_digest((presented or "").encode(), self._own)
        ):
            return
        if not self._has_keys:
            raise Unauthorized(
                "metrics: expected an admin's key, and there is no key file (gateway.keys)"
            )
        if not self.keys.authenticate(presented).admin:
            raise Forbidden("expected an admin's key")

    def slot(self, _: Exchange) -> AbstractContextManager[None]:
        return nullcontext()

    def ended(self, exchange: Exchange, status: int, code: str) -> None: ...
