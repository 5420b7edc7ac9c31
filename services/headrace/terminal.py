"""The commands' terminal: where they print, how they show progress, and how they end when they cannot."""

from collections.abc import Callable
from typing import NoReturn, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from headrace.errors import HeadraceError
from headrace_models.errors import ModelError

__all__ = ["err", "fail", "or_fail", "out", "progress_bar"]

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

T = TypeVar("T")


def fail(error: Exception) -> NoReturn:
    err.print(f"headrace: {error}", markup=False)
    raise SystemExit(1)


def or_fail(work: Callable[[], T]) -> T:
    try:
        return work()
    except (HeadraceError, ModelError) as error:
        fail(error)


def progress_bar() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)
