"""Bytes in, whole requests out: httptools parses, this class holds what arrives to its bounds.

A request is admitted or refused when its head is whole, before any of its body is read. What is wrong with the framing
is raised, and then nothing more can be read here: what would follow is nobody's request.
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

__all__ = ["BODY", "HEAD", "REQUEST", "Receiver"]

# What may be awaited: a request, of which nothing has come yet, the rest of its head, the rest of its body.
REQUEST, HEAD, BODY = "request", "head", "body"

# The parser is fed in pieces of this size, so that what it holds back is never much more than what is counted.
_PIECE_BYTES = 2 << 10
# A refused request's body is read and dropped up to this size, so that its connection can be kept.
_DISCARD_BYTES = 64 << 10
# What chunks may take beside their content: their sizes and line ends each, and all their extensions and trailers.
_CHUNK_OVERHEAD_BYTES, _EXTENSIONS_BYTES = 24, 8 << 10
_HEADER_PUNCTUATION = len(b": \r\n")


class Receiver:
    """Reads the requests of one connection for `taker`; what comes while that is full is kept for later."""

    def __init__(self, limits: EdgeLimits, budget: Budget, peer: str, taker: Taker) -> None:
        self._limits = limits
        self._budget = budget
        self._peer = peer
        self._taker = taker
        self._parser = httptools.HttpRequestParser(self)
        self.requests = 0
        self.is_in_head = False
        self.arriving: Exchange | None = None  # from the end of its head to the end of its body
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = self._header_count = 0
        self._unparsed_bytes = 0  # fed since the parser last gave a part of the head
        self._refused: HeadraceError | None = None
        self._is_chunked = self._is_old = False
        self._is_upgrade = (
            False  # its head was read by a parser that takes what follows for another protocol's
        )
        self._later = b""  # what came while the taker was full
        self._body: list[bytes] = []
        self._body_bytes = self._chunks = self._fed_bytes = 0

    @property
    def awaited(self) -> tuple[str, int]:
        """What the caller is to send next, and of which of its requests."""
        kind = BODY if self.arriving is not None else HEAD if self.is_in_head else REQUEST
        return kind, self.requests

    def feed(self, data: bytes) -> None:
        """Read on. Raises the HeadraceError that answers what arrives and ends the connection."""
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
        """Of a body with a length all that is missing; else little, so that few requests are read at a time."""
        if self.arriving is None or self._is_chunked:
            return _PIECE_BYTES
        return max(1, declared_length(self._headers) - self._body_bytes)

    def drop(self) -> None:
        """Give up what arrives: it will not be whole."""
        self._budget.give_back(sum(map(len, self._body)))
        self._body = []
        if self.arriving is not None:
            self.arriving.received_s = monotonic()
        self.arriving = None

    def end(self) -> None:
        """Nothing follows. Raises BadFraming or BodyTruncated if something should."""
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
        """What follows a head that asks for another protocol, for a new parser to read; None if there was none."""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            return piece[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except httptools.HttpParserInvalidMethodError:
            raise errors.UnknownMethod("expected a method of HTTP") from None
        except httptools.HttpParserError:
            where = (
                errors.BadChunk
                if self.arriving is not None and self._is_chunked
                else errors.BadFraming
            )
            raise where("expected a request as HTTP/1.1 has it, found something else") from None
        return None

    def _ignore_upgrade(self) -> None:
        """No other protocol is spoken here: read on as if none was asked for, as RFC 9110 (7.8) has it.

        The parser passes over the body of such a request. So another one goes on, which is told only where the body
        ends, and whether anything may follow it; the head has been judged as it came.
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
        self._url, self._headers = b"", {}
        self._head_bytes = self._header_count = self._unparsed_bytes = 0
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
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        if self._is_upgrade:
            self._is_upgrade = False
            return
        self.is_in_head = False
        headers, parser = self._headers, self._parser
        self._body_bytes = self._chunks = self._fed_bytes = 0
        self._is_chunked = b"transfer-encoding" in headers
        self.arriving = exchange = Exchange(
            parser.get_method().decode(), headers, self._peer, self._limits.max_body_bytes
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
            self._look_at_body(exchange)
        except HeadraceError as error:
            if (
                self._is_chunked
                or declared_length(headers) > _DISCARD_BYTES
                or b"expect" in headers
            ):
                raise  # its body is not worth reading
            self._refused = error
        self._is_upgrade = parser.should_upgrade()

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > self._limits.max_chunks + 1:  # the one that ends the body has no content
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
            return  # so the parser has it, which passes over the body
        exchange, self.arriving = self.arriving, None
        assert exchange is not None, "a message has a head"
        exchange.received_s = monotonic()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        # An old caller who asked to keep its connection would have to be told that it is: it is closed instead.
        keep = self._parser.should_keep_alive() and not self._is_old
        keep = keep and self.requests < self._limits.max_requests_per_connection
        self._taker.take(ReceivedRequest(exchange, body, self._refused, keep))

    def _look_at_body(self, exchange: Exchange) -> None:
        """Refuse by what the head says of the body; ask for a body that waits to be asked for."""
        waits = expects_continue(exchange.headers)
        if exchange.method != "POST":
            exchange.max_body_bytes = _DISCARD_BYTES
        if declared_length(exchange.headers) > exchange.max_body_bytes:
            raise _body_too_large(exchange)
        if waits and body_is_expected(exchange.headers):
            self._taker.go_on()

    def _check_overhead(self, slack_bytes: int) -> None:
        """`slack_bytes` of what was fed may belong to what follows, and is not counted yet."""
        beside = (
            self._fed_bytes - self._body_bytes - _CHUNK_OVERHEAD_BYTES * self._chunks - slack_bytes
        )
        if beside > _EXTENSIONS_BYTES:
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
