"""One HTTP request and its response, the call that a handler gets, and the route to it."""

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from headrace.errors import BadRequest, HeadraceError, UnknownRoute
from headrace.keys import Key

__all__ = [
    "MAX_TIMEOUT_S",
    "NO_ROUTE",
    "Application",
    "Call",
    "ErrorShape",
    "Exchange",
    "Handler",
    "Response",
    "Route",
]

C = TypeVar("C")

# Our own shape of an error, OpenAI's, or for a path that others ask, too: OpenAI's for OpenAI's
# clients alone.
ErrorShape = Literal["own", "openai", "shared"]

MAX_TIMEOUT_S = 300.0
_MIN_TIMEOUT_S = 0.001
_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{1,64}")


class Response(NamedTuple):
    """The answer to one request; the connection adds the framing."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


class Call(Generic[C]):
    """The argument of a handler: the request, its complete body, and the context of its port."""

    __slots__ = ("body", "context", "exchange")

    def __init__(self, context: C, exchange: "Exchange", body: bytes) -> None:
        self.context = context
        self.exchange = exchange
        self.body = body


Handler = Callable[[Call[C]], Awaitable[Response]]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Route(Generic[C]):
    """One method and path of a port, its handler, and what the port asks of its requests.

    `template` has `{name}` for a whole segment, or for its beginning as in `{model}:classify`; no
    colon fits it. A route of GET is one of HEAD, too: the same answer without its body. `api`
    labels metrics.
    """

    method: str
    template: str
    api: str
    handler: Handler[C]
    reads: tuple[str, ...] = ()  # Content-Types of its bodies; "" if it may be missing
    may_be_compressed: bool = False  # its body, by Content-Encoding
    max_body_bytes: int | None = None  # fewer than its port takes
    is_public: bool = False  # needs no key
    is_always_answered: bool = False  # however full the port is
    changes_server: bool = False  # how the server runs: no page of another site may ask for it
    errors: ErrorShape = "own"


async def _missing(call: Call[object]) -> Response:
    raise UnknownRoute("no such path")


# The route of an exchange for which none was found, or not yet.
NO_ROUTE: Route[Any] = Route(method="", template="", api="none", handler=_missing)


class Exchange:
    """A request from the end of its head to its answer: what arrived, and what was found for it.

    Times are on the monotonic clock.

    The receiver sets `method`, `headers` (names in lower case; the values of a repeated one joined
    by ", "), `peer` and the times: `began_s` is the end of the head, `received_s` the end of the
    body or when the rest was given up. The application sets the rest: `path` and `query` as they
    came, `params` percent-decoded from the path, `route`, `key`, and `model` and `version`, which
    label metrics and so come from what was found, never from the request. `max_body_bytes` may be
    lowered or raised while the head is admitted.
    """

    __slots__ = (
        "began_s",
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
        "route",
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
        self.route: Route[Any] = NO_ROUTE  # of whatever port this is
        self.model = self.version = ""
        self.request_id = ""
        self.key: Key | None = None
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

    @property
    def key_id(self) -> str:
        """The id of the caller's key; empty where no key is needed."""
        return "" if self.key is None else self.key.id

    def may_use(self, model: str) -> bool:
        """Tell whether the caller's key covers this model; without keys all callers may use it."""
        return self.key is None or self.key.may_use(model)

    def timeout_s(self, default_s: float) -> float:
        """The caller's X-Request-Timeout in seconds, clamped to 1 ms to MAX_TIMEOUT_S; without one
        the default.

        Raises BadRequest if it is not a number.
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
    """The application of a listener. Each exchange ends in one of `answer`, `refuse` and `left`."""

    def admit(self, exchange: Exchange, target: bytes) -> None:
        """Check a head before any of the body is read. Raises a HeadraceError to refuse it."""
        ...

    async def answer(self, exchange: Exchange, body: bytes) -> Response:
        """Answer an admitted request; its failures are answers, too."""
        ...

    def refuse(self, exchange: Exchange, error: HeadraceError) -> Response:
        """Answer a request that was not admitted, or whose body did not arrive as it should."""
        ...

    def left(self, exchange: Exchange) -> None:
        """Note that the caller went away before its request was received or taken up."""
        ...
