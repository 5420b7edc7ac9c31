"""The successors of a replica that drains: finds them, and offers them its sequences."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headrace.channel import Address, ReplicaClient, connect
from headrace.errors import DeadlineExceeded, HeadraceError, NotReady, Overloaded
from headrace.inference.sequences import SequenceKey, SequenceSnapshot, home_of, sequence_name
from headrace.replica.handover import hand_over
from headrace.replica.open_sequences import OpenSequences
from headrace_models.repository import version_order

__all__ = [
    "FIND_S",
    "HAND_OVER_S",
    "FindSuccessors",
    "Source",
    "Successor",
    "hand_over_to_successors",
    "no_successors",
]

log = logging.getLogger(__name__)

# The most time to find successors, to reach one, for one answer of it, and for all sequences.
FIND_S = 2.0
_CONNECT_S = 1.0
_TAKE_OVER_S = 2.0
HAND_OVER_S = 4.0


@dataclass(frozen=True, slots=True)
class Successor:
    """Another replica of the same model: its id in the fleet, its address, and its version."""

    id: str
    address: Address
    version: str


FindSuccessors = Callable[[], Awaitable[Sequence[Successor]]]


async def no_successors() -> Sequence[Successor]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The replica that hands its sequences over.

    `node` and `token` open channels; `tell_moved` tells every gateway which successor has which
    sequences.
    """

    model: str
    version: str
    node: str
    token: str
    tell_moved: Callable[[str, Collection[SequenceKey]], None]


async def hand_over_to_successors(
    sequences: OpenSequences, source: Source, find_successors: FindSuccessors
) -> None:
    """Start no more sequences, and hand the open ones over in bounded time; the rest stays."""
    sequences.stop_starting()
    if not sequences.open:
        return
    try:
        successors = await asyncio.wait_for(find_successors(), FIND_S)
        async with asyncio.timeout(HAND_OVER_S), _connected(successors, source) as tiers:
            offers = _Offers(source, tuple(sequences.initial), tiers)
            await hand_over(sequences, offers.offer)
    except (TimeoutError, HeadraceError) as error:
        log.warning("sequences were not handed over in time: %s", error)
    log.info("%d sequences were not handed over", sequences.open)


# Channels to the successors of one version, by id.
_Tier = dict[str, ReplicaClient]


@asynccontextmanager
async def _connected(successors: Sequence[Successor], source: Source) -> AsyncIterator[list[_Tier]]:
    """Connect to the successors: first those of the same version, then the newest versions."""
    clients = await asyncio.gather(*(_connect(successor, source) for successor in successors))
    tiers: dict[str, _Tier] = {}
    for successor, client in zip(successors, clients, strict=True):
        if client is not None:
            tiers.setdefault(successor.version, {})[successor.id] = client
    versions = sorted(tiers, key=version_order, reverse=True)
    versions.sort(key=lambda version: version != source.version)
    try:
        yield [tiers[version] for version in versions]
    finally:
        for client in clients:
            if client is not None:
                client.close()


async def _connect(successor: Successor, source: Source) -> ReplicaClient | None:
    try:
        return await asyncio.wait_for(
            connect(successor.address, source.node, source.token), _CONNECT_S
        )
    except (NotReady, Overloaded, TimeoutError):
        log.warning("replica %s cannot be reached to take sequences over", successor.id)
        return None


@dataclass(frozen=True, slots=True)
class _Offers:
    source: Source
    state_names: tuple[str, ...]
    tiers: Sequence[_Tier]

    async def offer(self, snapshots: Sequence[SequenceSnapshot], taken: set[SequenceKey]) -> None:
        """Offer sequences to one successor after the other, until each is taken or none is left."""
        left = {snapshot.key: snapshot for snapshot in snapshots}
        for tier in self.tiers:
            candidates = dict(tier)
            while left and candidates:
                shares = self._shares(left.values(), candidates)
                done = await asyncio.gather(
                    *(self._offer_share(i, candidates.pop(i), shares[i], taken) for i in shares)
                )
                for key in (key for part in done for key in part):
                    left.pop(key, None)

    def _shares(
        self, snapshots: Collection[SequenceSnapshot], successors: Collection[str]
    ) -> Mapping[str, list[SequenceSnapshot]]:
        """Split sequences by their homes among the successors, where gateways look for them."""
        shares: dict[str, list[SequenceSnapshot]] = {}
        for snapshot in snapshots:
            home = home_of(sequence_name(self.source.model, snapshot.key), successors)
            shares.setdefault(home, []).append(snapshot)
        return shares

    async def _offer_share(
        self,
        successor: str,
        client: ReplicaClient,
        share: Sequence[SequenceSnapshot],
        taken: set[SequenceKey],
    ) -> Collection[SequenceKey]:
        """Offer a successor its share; return the sequences not to be offered to another one."""
        try:
            taken_now = await client.take_over(self.state_names, share, _TAKE_OVER_S)
        except DeadlineExceeded:
            # It may have them: a second successor would run each of them twice.
            return [snapshot.key for snapshot in share]
        except HeadraceError:
            return ()
        if taken_now:
            taken.update(taken_now)
            self.source.tell_moved(successor, taken_now)
        return taken_now
