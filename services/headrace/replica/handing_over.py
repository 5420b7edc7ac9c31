"""What becomes of a replica's sequences when it goes away: it offers them to others, its successors."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headrace.channel import (
    Address,
    ReplicaClient,
    SequenceKey,
    SequenceSnapshot,
    connect,
    home_of,
    sequence_name,
)
from headrace.errors import DeadlineExceeded, HeadraceError, NotReady, Overloaded
from headrace.replica.sequences import Sequences
from headrace_models.repository import version_order

__all__ = ["Handover", "FindSuccessors", "Successor", "hand_over", "no_successors"]

log = logging.getLogger(__name__)

# To learn who may be an successor, to reach one, for one answer of it, and for all sequences together.
FIND_S = 2.0
_CONNECT_S = 1.0
_TAKE_OVER_S = 2.0
HAND_OVER_S = 4.0


@dataclass(frozen=True, slots=True)
class Successor:
    """Another replica of the same model: its id in the fleet, where it listens, and its version."""

    id: str
    address: Address
    version: str


FindSuccessors = Callable[[], Awaitable[Sequence[Successor]]]


async def no_successors() -> Sequence[Successor]:
    return ()


@dataclass(frozen=True, slots=True)
class Handover:
    """Whose sequences they are: of which model and version, with the states `kept`; `node` and `token` open channels.

    `tell` lets every gateway know which successor has which sequences.
    """

    model: str
    version: str
    kept: Collection[str]
    node: str
    token: str
    tell: Callable[[str, Collection[SequenceKey]], None]


async def hand_over(
    sequences: Sequences, estate: Handover, find_successors: FindSuccessors
) -> None:
    """Start no sequence any more, and give those that are open to successors: in bounded time, what is not given stays."""
    sequences.stop_starting()
    if not sequences.open:
        return
    try:
        successors = await asyncio.wait_for(find_successors(), FIND_S)
        async with asyncio.timeout(HAND_OVER_S), _reached(successors, estate) as tiers:
            await sequences.hand_over(_Offers(estate, tiers).give)
    except (TimeoutError, HeadraceError) as error:
        log.warning("sequences were not handed over in time: %s", error)
    log.info("%d sequences were not handed over", sequences.open)


# The successors of one version that can be reached, by id.
_Tier = dict[str, ReplicaClient]


@asynccontextmanager
async def _reached(successors: Sequence[Successor], estate: Handover) -> AsyncIterator[list[_Tier]]:
    """Channels to the successors: those of the same version first, then the others' from the newest to the oldest."""
    clients = await asyncio.gather(*(_reach(successor, estate) for successor in successors))
    reached = {
        successor: client
        for successor, client in zip(successors, clients, strict=True)
        if client is not None
    }
    versions = sorted({successor.version for successor in reached}, key=version_order, reverse=True)
    versions.sort(key=lambda version: version != estate.version)
    try:
        yield [
            {
                successor.id: client
                for successor, client in reached.items()
                if successor.version == v
            }
            for v in versions
        ]
    finally:
        for client in reached.values():
            client.close()


async def _reach(successor: Successor, estate: Handover) -> ReplicaClient | None:
    try:
        return await asyncio.wait_for(
            connect(successor.address, estate.node, estate.token), _CONNECT_S
        )
    except (NotReady, Overloaded, TimeoutError):
        log.warning("replica %s cannot be reached to take sequences over", successor.id)
        return None


@dataclass(frozen=True, slots=True)
class _Offers:
    estate: Handover
    tiers: Sequence[_Tier]

    async def give(self, handed: Sequence[SequenceSnapshot], taken: set[SequenceKey]) -> None:
        """Offer sequences to one successor after the other, until each is taken or nobody is left to ask."""
        left = {each.key: each for each in handed}
        for tier in self.tiers:
            willing = dict(tier)
            while left and willing:
                shares = self._shares(left.values(), willing)
                settled = await asyncio.gather(
                    *(self._offer(i, willing.pop(i), shares[i], taken) for i in shares)
                )
                for key in (key for part in settled for key in part):
                    left.pop(key, None)

    def _shares(
        self, handed: Collection[SequenceSnapshot], successors: Collection[str]
    ) -> Mapping[str, list[SequenceSnapshot]]:
        """Who is asked to take what: every gateway would look for it there."""
        shares: dict[str, list[SequenceSnapshot]] = {}
        for each in handed:
            home = home_of(sequence_name(self.estate.model, each.key), successors)
            shares.setdefault(home, []).append(each)
        return shares

    async def _offer(
        self,
        successor: str,
        client: ReplicaClient,
        share: Sequence[SequenceSnapshot],
        taken: set[SequenceKey],
    ) -> Collection[SequenceKey]:
        """Offer an successor its share; the sequences that nobody else may be offered."""
        try:
            adopted = await client.adopt(tuple(self.estate.kept), share, _TAKE_OVER_S)
        except (
            DeadlineExceeded
        ):  # it may have them, so that a second successor would make two of one
            return [each.key for each in share]
        except HeadraceError:
            return ()
        if adopted:
            taken.update(adopted)
            self.estate.tell(successor, adopted)
        return adopted
