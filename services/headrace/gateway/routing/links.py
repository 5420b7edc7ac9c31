"""The gateway's channels: one to each replica of the fleet, connected again whenever it breaks."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from headrace.channel import ReplicaClient, connect, has_ended
from headrace.errors import NotReady, Overloaded
from headrace.fleet.entries import ReplicaEntry
from headrace.gateway.routing.quarantine import Quarantine
from headrace.gateway.routing.served_models import ServedModels
from headrace.gateway.routing.version import Version
from headrace.inference.sequences import SequenceKey

__all__ = ["Links"]

_RECONNECT_S = (0.05, 0.2, 1.0)

# Called with a model, the source, the successor, and the sequences that it took over.
OnTakenOver = Callable[[str, str, str, Collection[SequenceKey]], None]


class Links:
    """Keeps the versions of `models` in touch with their replicas.

    Calls `report_ended` with the id of a replica whose process has ended, `changed` with a version
    when one of its replicas may have become ready, and `moved` when sequences have moved.
    """

    def __init__(
        self,
        node: str,
        token: str,
        models: ServedModels,
        quarantine: Quarantine,
        *,
        report_ended: Callable[[str], None],
        changed: Callable[[Version], None],
        moved: OnTakenOver,
    ) -> None:
        self._node = node
        self._token = token
        self._models = models
        self._quarantine = quarantine
        self._report_ended = report_ended
        self._changed = changed
        self._moved = moved
        self._links: dict[str, asyncio.Task[None]] = {}
        # Of each link: set once it is up or has failed once.
        self._tried: dict[str, asyncio.Event] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    def update(self, replicas: Collection[ReplicaEntry]) -> None:
        """Open channels to new replicas, and close those to replicas that left."""
        entries = {entry.id: entry for entry in replicas}
        for gone in self._links.keys() - entries.keys():
            self._tried.pop(gone).set()
            self._links.pop(gone).cancel()
        for entry_id in entries.keys() - self._links.keys():
            tried = self._tried[entry_id] = asyncio.Event()
            self._links[entry_id] = asyncio.create_task(self._link(entries[entry_id], tried))

    async def wait_linked(self) -> None:
        """Wait until each replica is connected or its first try has failed."""
        for tried in list(self._tried.values()):
            await tried.wait()

    async def close(self) -> None:
        links = list(self._links.values())
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def _link(self, entry: ReplicaEntry, tried: asyncio.Event) -> None:
        """Hold the channel to a replica, through reconnects, until it ends or leaves the fleet."""
        version = self._models.add(entry)
        attempt = 0
        try:
            while True:
                try:
                    client = await self._connect(entry)
                except (NotReady, Overloaded) as error:
                    # From another node a network may have refused for it.
                    is_local = entry.address.node == self._node
                    if is_local and has_ended(error):
                        self._report_ended(entry.id)
                        return
                    tried.set()
                    await asyncio.sleep(_RECONNECT_S[min(attempt, len(_RECONNECT_S) - 1)])
                    attempt += 1
                    continue
                attempt = 0
                await self._use(client, entry, version, tried)
        finally:
            tried.set()
            self._models.remove(entry, version)

    async def _connect(self, entry: ReplicaEntry) -> ReplicaClient:
        moved = partial(self._moved, entry.spec.name, entry.id)
        blame = partial(self._quarantine.blame, entry.spec)
        return await connect(entry.address, self._node, self._token, moved, blame)

    async def _use(
        self, client: ReplicaClient, entry: ReplicaEntry, version: Version, tried: asyncio.Event
    ) -> None:
        """Let requests go to a replica until its channel is lost."""
        version.clients[entry.id] = client
        client.watch(partial(self._changed, version))
        try:
            await client.known.wait()
            tried.set()
            self._changed(version)
            await client.lost.wait()
        finally:
            del version.clients[entry.id]
            self._retire(client)

    def _retire(self, client: ReplicaClient) -> None:
        """Send it nothing new, but let it answer what it accepted."""
        task = asyncio.create_task(client.finish())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
