"""Requests that change how a server runs: no page of another site may send one.

A browser says whose page asks, by Origin and Sec-Fetch-Site, and sends other sites' requests without asking before only
with the content types of forms. Callers that are no browsers say neither, and some of them no content type.
"""

from collections.abc import Collection
from functools import lru_cache

from headrace.edge.exchange import Exchange
from headrace.edge.framing import body_is_expected
from headrace.edge.kinds import refusal
from headrace.errors import ForeignOrigin, UnsupportedMedia

__all__ = ["KINDS", "Changes"]

_JSON = ("application/json",)
# tritonclient's asyncio client says octet-stream of whatever it sends, its other one nothing.
KINDS = ("", *_JSON, "application/octet-stream")
_OWN_SITES = (b"none", b"same-origin")


class Changes:
    """Admits changes from a server's own pages, which have its `scheme` and Host, from `origins`, and from no page."""

    def __init__(self, scheme: str, origins: Collection[str] = ()) -> None:
        self._scheme = scheme.encode() + b"://"
        self._origins = frozenset(origin.encode() for origin in origins)

    def check(self, exchange: Exchange) -> None:
        """Raise ForeignOrigin for another site's page, or UnsupportedMedia for a body that is not said to be JSON."""
        headers = exchange.headers
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if not self._is_welcome(origin, site, headers.get(b"host", b"")):
            raise ForeignOrigin("Origin: expected this server's own or one of origins under [gateway], found another")
        if body_is_expected(headers):
            is_of_browser = origin is not None or any(name.startswith(b"sec-fetch-") for name in headers)
            if why := _refusal(headers.get(b"content-type", b""), _JSON if is_of_browser else KINDS):
                raise UnsupportedMedia(why)

    def _is_welcome(self, origin: bytes | None, site: bytes | None, host: bytes) -> bool:
        if origin in self._origins:
            return True
        is_own = origin is None or origin.lower() == self._scheme + host.lower()
        return is_own and (site is None or site in _OWN_SITES)


_refusal = lru_cache(maxsize=64)(refusal)
