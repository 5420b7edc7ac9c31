"""Remembers the results for texts that strangers send, within bounds."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["remember_short"]

P = ParamSpec("P")
T = TypeVar("T")

_MAX_REMEMBERED = 1024
# A longer text is not remembered, so that strangers fill no memory with them.
_MAX_BYTES = 256


def remember_short(function: Callable[P, T]) -> Callable[P, T]:
    """Remember the results of a function whose last argument is a text, unless that is long."""
    remembered = cast(Callable[..., T], lru_cache(maxsize=_MAX_REMEMBERED)(function))
    forgetful = cast(Callable[..., T], function)

    @wraps(function)
    def call(*args: Any) -> T:  # noqa: ANN401 - P cannot say that a text is last
        return (remembered if len(args[-1]) <= _MAX_BYTES else forgetful)(*args)

    return cast(Callable[P, T], call)
