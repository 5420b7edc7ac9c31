"""Reads requests from bytes: httptools parses, and this class holds what arrives to its limits.

A request is admitted or refused at the end of its head, before any of its body is read. An error in
the framing is raised, and ends the reading: nobody can tell where the next request would begin.
"""

from time import monotonic

import httptools

from headrace import errors
from headrace.edge.budget import Budget
from headrace.edge.exchange import Exchange
from headrace.edge.framing import (
    READ_HEADERS,
    body_is_expected,
    check_head,
    declared_length,
    expects_continue,
    framing_of,
)
from headrace.edge.limits import EdgeLimits
from headrace.edge.received import ReceivedRequest, Taker
from headrace.errors import HeadraceError

__all__ = ["BODY", "HEAD", "NOTHING", "REQUEST", "Part", "Receiver"]

# The parts that a caller may have to send next: all of a request, or the rest of its head or body.
REQUEST, HEAD, BODY = "request", "head", "body"
# One of them, and the number of the request on its connection.
Part = tuple[str, int]
NOTHING: Part = ("", 0)

# The parser is fed in pieces of this size, so that it never holds much more than what is counted.
_PIECE_BYTES = 2 << 10
# A refused request's body is read and dropped up to this size, so that its connection can be kept.
_DISCARD_BYTES = 64 << 10
# Allowed beside the content of chunks: the size and line ends of each; all extensions and trailers.
_CHUNK_OVERHEAD_BYTES = 24
_EXTENSIONS_BYTES = 8 << 10
_HEADER_PUNCTUATION = len(b": \r\n")


class Receiver:
    """Reads the requests of one connection for `taker`; while that is full, keeps what arrives."""

    def __init__(self, limits: EdgeLimits, budget: Budget, taker: Taker) -> None:
        self._limits = limits
        self._budget = budget
        self._taker = taker
        self._parser = httptools.HttpRequestParser(self)
        self.peer = ""
        self.requests = 0
        self.is_in_head = False
        self.arriving: Exchange | None = None  # from the end of its head to the end of its body
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._header_count = 0
        self._unparsed_bytes = 0  # fed since the parser last returned a part of the head
        self._refused: HeadraceError | None = None
        self._is_chunked = False
        self._is_old = False
        # The parser that read the head takes all that follows for another protocol.
        self._is_upgrade = False
        self._later = b""  # arrived while the taker was full
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._chunks = 0
        self._fed_bytes = 0

    @property
    def awaited(self) -> Part:
        """The part that the caller is to send next."""
        if self.arriving is not None:
            return BODY, self.requests
        return HEAD if self.is_in_head else REQUEST, self.requests

    def feed(self, data: bytes) -> None:
        """Read on. Raises the HeadraceError that is the last answer on the connection."""
        if len(data) <= _PIECE_BYTES and not self._later:
            self._feed(data)
            return
        rest = memoryview(self._later + data)
        while len(rest) and not self._taker.is_full():
            size = self._piece_bytes()
            self._feed(rest[:size])
            rest = rest[size:]
        self._later = bytes(rest)

    def _piece_bytes(self) -> int:
        """The rest of a body of known length, or little, so that few requests are read at once."""
        if self.arriving is None or self._is_chunked:
            return _PIECE_BYTES
        return max(1, declared_length(self._headers) - self._body_bytes)

    def drop(self) -> Exchange | None:
        """Give up the request that is arriving, and return it."""
        self._budget.give_back(sum(map(len, self._body)))
        self._body = []
        dropped, self.arriving = self.arriving, None
        if dropped is not None:
            dropped.received_s = monotonic()
        return dropped

    def end(self) -> None:
        """Take the input to have ended. Raises BadFraming or BodyTruncated inside a request."""
        if self.is_in_head:
            raise errors.BadFraming("head: expected all of it, found its end")
        if self.arriving is not None:
            raise errors.BodyTruncated("body: expected all of it, found its end")

    def _feed(self, piece: bytes | memoryview) -> None:
        self._unparsed_bytes += len(piece)
        self._fed_bytes += len(piece)
        rest = self._parse(piece)
        while rest is not None:
            self._ignore_upgrade()
            rest = self._parse(rest)
        if self.is_in_head and self._unparsed_bytes > self._limits.max_header_bytes + _PIECE_BYTES:
            raise self._head_too_large()
        if self.arriving is not None and self._is_chunked:
            self._check_overhead(0)

    def _parse(self, piece: bytes | memoryview) -> bytes | memoryview | None:
        """Parse; return what follows a head with an Upgrade header, if one was found."""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            return piece[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except httptools.HttpParserInvalidMethodError:
            raise errors.UnknownMethod("expected a method of HTTP") from None
        except httptools.HttpParserError:
            is_in_chunk = self.arriving is not None and self._is_chunked
            kind = errors.BadChunk if is_in_chunk else errors.BadFraming
            raise kind("expected a request as HTTP/1.1 has it, found something else") from None
        return None

    def _ignore_upgrade(self) -> None:
        """Ignore the Upgrade header (RFC 9110, 7.8): have a new parser read the body.

        The old parser skips the body of such a request. The new one is given a head that says only
        where the body ends and whether a request may follow; the real head has been judged already.
        """
        framing = framing_of(self._headers, keep=self._parser.should_keep_alive())
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._parse(framing)

    def on_message_begin(self) -> None:
        if self._is_upgrade:
            return
        self.requests += 1
        self.is_in_head = True
        self._url = b""
        self._headers = {}
        self._head_bytes = 0
        self._header_count = 0
        self._unparsed_bytes = 0
        self._refused = None
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._unparsed_bytes = 0
        self._url += url
        if len(self._url) > self._limits.max_uri_bytes:
            raise errors.UriTooLong(
                f"target: expected at most {self._limits.max_uri_bytes} bytes, found more"
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_in_head:
            return  # a trailer: it must not pass for a header
        name = name.lower()
        self._unparsed_bytes = 0
        self._header_count += 1
        self._head_bytes += len(name) + len(value) + _HEADER_PUNCTUATION
        limits = self._limits
        if (
            self._head_bytes > limits.max_head_bytes
            or self._header_count > limits.max_headers
            or len(name) + len(value) > limits.max_header_bytes
        ):
            raise self._head_too_large()
        if name in READ_HEADERS and not value.isascii():
            self._refused = errors.BadRequest(f"{name.decode()}: expected ASCII, found other bytes")
        earlier = self._headers.get(name)
        self._headers[name] = value if earlier is None else earlier + b", " + value

    def on_headers_complete(self) -> None:
        if self._is_upgrade:
            self._is_upgrade = False
            return
        headers = self._headers
        parser = self._parser
        self.is_in_head = False
        self._body_bytes = 0
        self._chunks = 0
        self._fed_bytes = 0
        self._is_chunked = b"transfer-encoding" in headers
        self.arriving = exchange = Exchange(
            parser.get_method().decode(), headers, self.peer, self._limits.max_body_bytes
        )
        version = parser.get_http_version()
        self._is_old = version == "1.0"
        check_head(version, headers)
        if exchange.method == "CONNECT":
            raise errors.WrongMethod(
                "expected another method than CONNECT", allowed="GET, HEAD, POST"
            )
        try:
            if self._refused is not None:
                raise self._refused
            self._taker.admit(exchange, self._url)
            self._check_body(exchange)
        except HeadraceError as error:
            is_long = self._is_chunked or declared_length(headers) > _DISCARD_BYTES
            if is_long or b"expect" in headers:
                raise  # its body is not worth reading
            self._refused = error
        self._is_upgrade = parser.should_upgrade()

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > self._limits.max_chunks + 1:  # the last chunk, which is empty, is extra
            raise errors.TooManyChunks(
                f"body: expected at most {self._limits.max_chunks} chunks, found more"
            )
        self._check_overhead(_PIECE_BYTES)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._refused is not None:
            return
        assert self.arriving is not None, "a body follows a head"
        if self._body_bytes > self.arriving.max_body_bytes:
            raise _body_too_large(self.arriving)
        self._budget.take(len(data))
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return  # the parser says so because it skips the body
        exchange, self.arriving = self.arriving, None
        assert exchange is not None, "a message has a head"
        exchange.received_s = monotonic()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        # HTTP/1.0 would have to be told that its connection is kept: close it instead.
        keep = self._parser.should_keep_alive() and not self._is_old
        keep = keep and self.requests < self._limits.max_requests_per_connection
        self._taker.take(ReceivedRequest(exchange, body, self._refused, keep))

    def _check_body(self, exchange: Exchange) -> None:
        """Refuse a body by what the head says of it; invite one whose caller waits for a 100."""
        is_waiting = expects_continue(exchange.headers)
        if exchange.method != "POST":
            exchange.max_body_bytes = _DISCARD_BYTES
        if declared_length(exchange.headers) > exchange.max_body_bytes:
            raise _body_too_large(exchange)
        if is_waiting and body_is_expected(exchange.headers):
            self._taker.invite_body()

    def _check_overhead(self, slack_bytes: int) -> None:
        """Bound what chunks have beside their content; `slack_bytes` may belong to what follows."""
        content_bytes = self._body_bytes + _CHUNK_OVERHEAD_BYTES * self._chunks
        if self._fed_bytes - content_bytes - slack_bytes > _EXTENSIONS_BYTES:
            raise errors.BadChunk(
                f"body: expected at most {_EXTENSIONS_BYTES} bytes of chunk extensions and trailers"
            )

    def _head_too_large(self) -> errors.HeadersTooLarge:
        limits = self._limits
        return errors.HeadersTooLarge(
            f"headers: expected at most {limits.max_headers} of {limits.max_header_bytes} bytes, "
            f"{limits.max_head_bytes} in all"
        )


def _body_too_large(exchange: Exchange) -> errors.BodyTooLarge:
    return errors.BodyTooLarge(
        f"body: expected at most {exchange.max_body_bytes} bytes, found more"
    )
