"""A router and the replicas that it may find: over real channels, without models."""

import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from loadtests.support.model_specs import model_spec
from tests.channel.replicas import TOKEN, Doubler, Running, doubled, running, until

from headrace.fleet.entries import Fleet, ReplicaEntry, Trouble
from headrace.gateway.routing.router import Router
from headrace.inference.request import Request
from headrace.telemetry.events import GatewayEvents
from headrace_models.spec import ModelSpec

__all__ = ["RouterHarness", "fall_silent", "hang_up", "speak_again", "spec"]


def spec(version: str = "1", name: str = "tiny") -> ModelSpec:
    return model_spec(name, version)


class RecordedEvents(GatewayEvents):
    """Records repeats, waits, troubles and versions."""

    def __init__(self) -> None:
        self.retried: list[str] = []
        self.waits: list[float] = []
        self.waiting: Callable[[], int] = lambda: 0
        self.troubled: dict[str, bool] = {}
        self.versions: list[str] = []

    def version_joined(self, spec: ModelSpec) -> None:
        self.versions.append(f"+{spec.version}")

    def version_left(self, spec: ModelSpec) -> None:
        self.versions.append(f"-{spec.version}")

    def model_troubled(self, model: str, *, is_troubled: bool) -> None:
        self.troubled[model] = is_troubled

    def request_retried(self, model: str) -> None:
        self.retried.append(model)

    def watch_waiting(self, requests: Callable[[], int]) -> None:
        self.waiting = requests

    def request_waited(self, model: str, seconds: float) -> None:  # noqa: ARG002
        self.waits.append(seconds)


class RouterHarness:
    """A router and the replicas that it may find."""

    def __init__(self, folder: Path, stack: AsyncExitStack, max_waiting: int = 512) -> None:
        self.events = RecordedEvents()
        self.ended: list[str] = []
        self.router = Router("here", TOKEN, self.events, max_waiting, self.ended.append)
        self._folder = folder
        self._stack = stack
        self._revision = 0
        self._lives: dict[Running, AsyncExitStack] = {}
        self.entries: list[ReplicaEntry] = []
        self.spec_of: Callable[[str], ModelSpec] = spec

    async def start(self, version: str = "1", service: Doubler | None = None) -> Running:
        """Start a replica and wait until the router uses it."""
        replica = await self.launch(version, service)
        await until(
            lambda: len(replica.channel.peers) == 1 and self.is_ready(version, self.entries[-1].id)
        )
        return replica

    async def launch(self, version: str = "1", service: Doubler | None = None) -> Running:
        """Start a replica and tell the router of it."""
        home = self._folder / str(len(self._lives))
        home.mkdir()
        life = await self._stack.enter_async_context(AsyncExitStack())
        replica = await life.enter_async_context(running(home, service))
        self._lives[replica] = life
        self.entries.append(
            ReplicaEntry(home.name, self.spec_of(version), (), replica.address, "onnx")
        )
        self.update(self.entries)
        return replica

    async def kill(self, replica: Running) -> None:
        """End it as if killed: channels end, and the socket that is left refuses connections."""
        hang_up(replica)
        await self._lives[replica].aclose()
        with socket.socket(socket.AF_UNIX) as deserted:
            deserted.bind(replica.address.unix)

    async def another_gateway(self) -> Router:
        """Start a router beside the harness's own that uses all replicas, too."""
        router = Router("here", TOKEN, GatewayEvents())
        self._stack.push_async_callback(router.close)
        router.update(Fleet(1, ("tiny",), tuple(self.entries), ()))
        await router.wait_linked()
        return router

    def is_ready(self, version: str, entry_id: str) -> bool:
        found = self.router.models().get("tiny", {}).get(version)
        return found is not None and entry_id in found.clients and found.clients[entry_id].is_ready

    def update(
        self,
        entries: Sequence[ReplicaEntry],
        models: Sequence[str] = ("tiny",),
        troubles: Sequence[Trouble] = (),
    ) -> None:
        self._revision += 1
        self.router.update(
            Fleet(self._revision, tuple(models), tuple(entries), (), troubles=tuple(troubles))
        )

    async def dispatch(self, asked: Request, version: str | None = None) -> float:
        return doubled(await self.router.dispatch(self.router.find("tiny", version), asked))


def fall_silent(replica: Running) -> None:
    """Let it read nothing, as if its machine were short of time."""
    for peer in replica.channel.peers:
        peer.frame_stream._transport.pause_reading()  # type: ignore[union-attr] # open


def speak_again(replica: Running) -> None:
    for peer in replica.channel.peers:
        peer.frame_stream._transport.resume_reading()  # type: ignore[union-attr] # open


def hang_up(replica: Running) -> None:
    for peer in list(replica.channel.peers):
        peer.frame_stream.abort()
