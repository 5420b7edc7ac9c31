"""Callbacks of the event loop whose errors go to their own object."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["guarded"]

P = ParamSpec("P")


class _Breakable(Protocol):
    def break_off(self, error: Exception) -> None:
        """Handle an unforeseen error."""
        ...


T = TypeVar("T", bound=_Breakable)


def guarded(callback: Callable[Concatenate[T, P], None]) -> Callable[Concatenate[T, P], None]:
    """Keep errors from the loop's own handler, which would drop the connection unanswered."""

    @wraps(callback)
    def call(self: T, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(self, *args, **kwargs)
        except Exception as error:
            self.break_off(error)

    return call
