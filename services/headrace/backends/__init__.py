"""Backends run a loaded model; each runtime is imported when a model asks for it."""

from importlib import import_module
from typing import Protocol, cast

from headrace.backends.contract import Backend, Stoppable
from headrace.backends.refused import reason_without_values, refuses_inputs
from headrace_models.repository import ModelVersion
from headrace_models.spec import BACKENDS

__all__ = ["Backend", "Stoppable", "load", "reason_without_values", "refuses_inputs"]


class _Module(Protocol):
    """A module `headrace.backends.NAME`."""

    def load(self, version: ModelVersion) -> Backend:
        """Load the model on the best device of this machine."""
        ...


def load(version: ModelVersion, name: str) -> Backend:
    """The model on the best device of this machine. `name` is one of the spec's weights."""
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {sorted(BACKENDS)}, found {name!r}")
    return cast(_Module, import_module(f"headrace.backends.{name}")).load(version)
