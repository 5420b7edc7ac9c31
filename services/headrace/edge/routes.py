"""The table of a port's routes; it remembers the route of each path."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from headrace.edge.exchange import ErrorShape, Route
from headrace.edge.framing import split_target
from headrace.edge.remembered import remember_short
from headrace.errors import HeadraceError, UnknownRoute, WrongMethod

__all__ = ["Found", "RouteTable", "verbs"]

C = TypeVar("C")


class Found(NamedTuple, Generic[C]):
    """A route for a path, and the path's parameters."""

    route: Route[C]
    params: Mapping[str, str]


class RouteTable(Generic[C]):
    """The routes of a listener, in any order: a segment that is fixed comes before one that has a
    parameter.
    """

    def __init__(self, routes: Iterable[Route[C]]) -> None:
        split = [(route, route.template.split("/")) for route in routes]
        self._routes = sorted(split, key=lambda item: ["{" in segment for segment in item[1]])
        self._remembered = remember_short(self._look)
        self._shapes = remember_short(self._shape)

    def find(self, method: str, target: bytes) -> Found[C]:
        """The route of a request line. Raises BadTarget, UnknownRoute or WrongMethod."""
        found = self._remembered(method, target)
        if isinstance(found, HeadraceError):
            # A new error: a remembered one would keep the frames that it went through.
            raise type(found)(*found.args)
        return found

    def error_shape(self, path: str) -> ErrorShape:
        """The shape of errors at a path, whatever the method, and with a slash too many."""
        return self._shapes(path)

    def _look(self, method: str, target: bytes) -> "Found[C] | HeadraceError":
        """Return an error instead of raising it, so that it is remembered, too."""
        try:
            segments = split_target(method, target)
        except HeadraceError as error:
            return error
        verb = "GET" if method == "HEAD" else method
        allowed: list[str] = []
        for route, params in self._matches(segments):
            if route.method == verb:
                return Found(route, params)
            allowed.append(route.method)
        if allowed or segments == ("", "*"):
            names = verbs(allowed or ["GET", "POST"])
            return WrongMethod(
                f"expected {' or '.join(names)} for this path", allowed=", ".join(names)
            )
        return UnknownRoute("no such path")

    def _shape(self, path: str) -> ErrorShape:
        segments = path.removesuffix("/").split("/")
        return next((route.errors for route, _ in self._matches(segments)), "own")

    def _matches(self, segments: Sequence[str]) -> Iterable[tuple[Route[C], Mapping[str, str]]]:
        for route, template in self._routes:
            params = _match(template, segments)
            if params is not None:
                yield route, params


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
