"""Which handler a request is for: a fixed table of paths, looked up once for each path and then remembered."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from headrace.edge.framing import split_target
from headrace.errors import HeadraceError, UnknownRoute, WrongMethod

__all__ = ["Found", "Route", "RouteTable", "verbs"]

H = TypeVar("H")

_REMEMBERED = 1024
# A path longer than this is found without being remembered, so that strangers fill no memory with them.
_MAX_REMEMBERED_BYTES = 256


class Route(NamedTuple, Generic[H]):
    """`template` has `{name}` for a whole segment, or for its beginning as in `{model}:classify`; no colon fits it.

    A route of GET is one of HEAD too: the same answer, of which nothing but the head is sent.
    `api` labels metrics, and says to the application what a route needs.
    """

    method: str
    template: str
    api: str
    handler: H


class Found(NamedTuple, Generic[H]):
    """A route for a path, and the path's parameters."""

    route: Route[H]
    params: Mapping[str, str]


class RouteTable(Generic[H]):
    """The routes of a listener."""

    def __init__(self, routes: Iterable[Route[H]]) -> None:
        self._routes = [(route, route.template.split("/")) for route in routes]
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._look)

    def find(self, method: str, target: bytes) -> Found[H]:
        """The route of a request line. Raises BadTarget, UnknownRoute or WrongMethod."""
        found = (self._remembered if len(target) <= _MAX_REMEMBERED_BYTES else self._look)(
            method, target
        )
        if isinstance(found, HeadraceError):
            raise type(found)(
                *found.args
            )  # one of its own: a remembered one would keep the frames it went through
        return found

    def _look(self, method: str, target: bytes) -> "Found[H] | HeadraceError":
        """An error is given, not raised, so that it is remembered too."""
        try:
            segments = split_target(method, target)
        except HeadraceError as error:
            return error
        verb = "GET" if method == "HEAD" else method
        allowed: list[str] = []
        for route, template in self._routes:
            params = _match(template, segments)
            if params is None:
                continue
            if route.method == verb:
                return Found(route, params)
            allowed.append(route.method)
        if allowed or segments == ("", "*"):
            names = verbs(allowed or ["GET", "POST"])
            return WrongMethod(
                f"expected {' or '.join(names)} for this path", allowed=", ".join(names)
            )
        return UnknownRoute("no such path")


def verbs(methods: Iterable[str]) -> list[str]:
    """All verbs that routes of these methods answer."""
    found = set(methods)
    return sorted(found | {"HEAD"} if "GET" in found else found)


def _match(template: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    if len(template) != len(segments):
        return None
    params: dict[str, str] = {}
    for expected, found in zip(template, segments, strict=True):
        name, brace, suffix = expected.removeprefix("{").partition("}")
        if not brace:
            if expected != found:
                return None
        elif (
            found.endswith(suffix)
            and len(found) > len(suffix)
            and ":" not in (value := found.removesuffix(suffix))
        ):
            params[name] = value
        else:
            return None
    return params
