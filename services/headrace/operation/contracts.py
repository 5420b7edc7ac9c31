"""Serve's applications and the fleet's members, as the operator needs them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from headrace_models.names import VersionId
from headrace_models.repository import ModelVersion

__all__ = ["Applications", "Members"]


class Applications(Protocol):
    """Runs model versions."""

    def deploy(self, version: ModelVersion) -> None: ...

    def wait_until_running(self, version: ModelVersion) -> str:
        """Wait, for a bounded time; returns "" once it runs, or the reason in one line."""
        ...

    def delete(self, version: ModelVersion) -> None:
        """Let it answer the requests that it accepted, and end it."""
        ...

    def given_up(self, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        """The versions that only we can start again: they failed too often, or are missing."""
        ...


class Members(Protocol):
    """Knows which versions are served."""

    def expect(self, models: Sequence[str]) -> None:
        """Set the models that must be served for the platform to be ready."""
        ...

    def is_served(self, model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:
        """Wait until gateways use a replica of this version, or know of none; False if too late."""
        ...

    def serving(self) -> set[VersionId]: ...

    def troubles(self) -> Mapping[VersionId, str]:
        """The versions that fail again and again, with their reasons."""
        ...

    def forgive(self, model: str) -> None:
        """Forget a model's failures, so that its replicas start at once."""
        ...
