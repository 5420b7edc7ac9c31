"""Requests that change something: a setting of the server, or a state that it keeps.

No page of another site may send one. A browser names the page's site by Origin and Sec-Fetch-Site,
and sends requests of other sites without a preflight only with the content types of forms. Other
clients send neither header, and some of them no content type.
"""

from collections.abc import Collection

from headrace.edge.content_types import refusal
from headrace.edge.cors import ANY_ORIGIN
from headrace.edge.exchange import Exchange
from headrace.edge.framing import body_is_expected
from headrace.errors import ForeignOrigin, UnsupportedMedia

__all__ = ["CHANGE_TYPES", "OriginCheck"]

_JSON = ("application/json",)
# tritonclient's asyncio client says octet-stream of whatever it sends, its other one nothing.
CHANGE_TYPES = ("", *_JSON, "application/octet-stream")
_OWN_SITES = (b"none", b"same-origin")


class OriginCheck:
    """Admits changes from pages of the server's own `scheme` and Host, from `origins`, and from no
    page.

    With ANY_ORIGIN among these every page may send steps of sequences, but change nothing else.
    """

    def __init__(self, scheme: str, origins: Collection[str] = ()) -> None:
        self._scheme = scheme.encode() + b"://"
        self._origins = frozenset(origin.encode() for origin in origins)
        self._is_any = ANY_ORIGIN in origins

    def check(self, exchange: Exchange) -> None:
        """Raise ForeignOrigin for another site's page, UnsupportedMedia unless a body is JSON."""
        self._check_origin(exchange)
        headers = exchange.headers
        if body_is_expected(headers):
            is_of_browser = b"origin" in headers or any(
                name.startswith(b"sec-fetch-") for name in headers
            )
            kinds = _JSON if is_of_browser else CHANGE_TYPES
            if reason := refusal(headers.get(b"content-type", b""), kinds):
                raise UnsupportedMedia(reason)

    def check_step(self, exchange: Exchange) -> None:
        """Raise ForeignOrigin for a step of a sequence from a page of another site."""
        if not self._is_any:
            self._check_origin(exchange)

    def _check_origin(self, exchange: Exchange) -> None:
        headers = exchange.headers
        if not self._is_welcome(
            headers.get(b"origin"), headers.get(b"sec-fetch-site"), headers.get(b"host", b"")
        ):
            raise ForeignOrigin(
                "Origin: expected this server's own or one of origins under [gateway], "
                "found another"
            )

    def _is_welcome(self, origin: bytes | None, site: bytes | None, host: bytes) -> bool:
        if origin in self._origins:
            return True
        is_own = origin is None or origin.lower() == self._scheme + host.lower()
        return is_own and (site is None or site in _OWN_SITES)
