"""A router and the replicas that it may find: over real channels, without models."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.channel.replicas import TOKEN, Running, doubled, running, until

from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.routing import Router
from headrace.telemetry.events import Silent
from headrace.tensor import Request
from headrace_models.spec import ModelSpec

__all__ = ["Town", "hang_up", "spec"]


def spec(version: str = "1") -> ModelSpec:
    digest = "0" * 64
    document: dict[str, Any] = {
        "name": "tiny",
        "version": version,
        "weights": {"onnx": "m.onnx"},
        "golden": "g.npz",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
        "files": {"m.onnx": digest, "g.npz": digest},
    }
    return ModelSpec.model_validate(document)


class Retries(Silent):
    """Counts what was asked again."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def request_retried(self, model: str) -> None:
        self.models.append(model)


class Town:
    """A router and the replicas that it may find."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.events = Retries()
        self.router = Router("here", TOKEN, self.events)
        self._folder = folder
        self._stack = stack
        self._revision = 0
        self.entries: list[ReplicaEntry] = []

    async def start(self, version: str = "1") -> Running:
        """One more replica, which the router has found."""
        home = self._folder / str(len(self.entries))
        home.mkdir()
        replica = await self._stack.enter_async_context(running(home))
        self.entries.append(ReplicaEntry(home.name, spec(version), (), replica.address, "onnx"))
        self.tell(self.entries)
        await until(lambda: len(replica.channel.peers) == 1 and self.is_ready(version, home.name))
        return replica

    async def another_gateway(self) -> Router:
        """A router beside the town's own, which has found all replicas too."""
        router = Router("here", TOKEN, Silent())
        self._stack.push_async_callback(router.close)
        router.update(Fleet(1, ("tiny",), tuple(self.entries), ()))
        await router.settle()
        return router

    def is_ready(self, version: str, entry_id: str) -> bool:
        found = self.router.models().get("tiny", {}).get(version)
        return found is not None and entry_id in found.replicas and found.replicas[entry_id].is_ready

    def tell(self, entries: Sequence[ReplicaEntry]) -> None:
        self._revision += 1
        self.router.update(Fleet(self._revision, ("tiny",), tuple(entries), ()))

    async def ask(self, asked: Request, version: str | None = None) -> float:
        return doubled(await self.router.ask(self.router.find("tiny", version), asked))


def hang_up(replica: Running) -> None:
    for peer in list(replica.channel.peers):
        peer.stream.abort()
