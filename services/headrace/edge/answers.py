"""A response as the bytes of HTTP/1.1, in one piece."""

from http import HTTPStatus

from headrace.edge.exchange import Response

__all__ = ["CONTINUE", "bytes_of"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}
_NO_CONTENT = 204
_STATUS_LINES = {
    code: f"HTTP/1.1 {code} {phrase}\r\ncontent-type: ".encode()
    for code, phrase in _PHRASES.items()
}


def bytes_of(response: Response, method: str, *, keep: bool) -> bytes:
    """Status line, headers and body; HEAD has no body. `keep` tells if the connection stays."""
    if response.status == _NO_CONTENT:
        parts = [b"HTTP/1.1 204 No Content\r\n"]
    else:
        parts = [
            _STATUS_LINES[response.status],
            response.content_type,
            b"\r\ncontent-length: %d\r\n" % len(response.body),
        ]
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n" if keep else b"connection: close\r\n\r\n")
    if method != "HEAD":
        parts.append(response.body)
    return b"".join(parts)
