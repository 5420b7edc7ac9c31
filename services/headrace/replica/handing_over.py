"""What becomes of a replica's sequences when it goes away: it offers them to others, its heirs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headrace.channel import (
    Address,
    HandedSequence,
    ReplicaClient,
    SequenceKey,
    connect,
    home_of,
    sequence_name,
)
from headrace.errors import DeadlineExceeded, HeadraceError, NotReady, Overloaded
from headrace.replica.sequences import Sequences
from headrace_models.repository import version_order

__all__ = ["Estate", "FindHeirs", "Heir", "hand_over", "no_heirs"]

log = logging.getLogger(__name__)

# To learn who may be an heir, to reach one, for one answer of it, and for all sequences together.
FIND_S = 2.0
_CONNECT_S = 1.0
_ADOPT_S = 2.0
HAND_OVER_S = 4.0


@dataclass(frozen=True, slots=True)
class Heir:
    """Another replica of the same model: its id in the fleet, where it listens, and its version."""

    id: str
    address: Address
    version: str


FindHeirs = Callable[[], Awaitable[Sequence[Heir]]]


async def no_heirs() -> Sequence[Heir]:
    return ()


@dataclass(frozen=True, slots=True)
class Estate:
    """Whose sequences they are: of which model and version, with the states `kept`; `node` and `token` open channels.

    `tell` lets every gateway know which heir has which sequences.
    """

    model: str
    version: str
    kept: Collection[str]
    node: str
    token: str
    tell: Callable[[str, Collection[SequenceKey]], None]


async def hand_over(sequences: Sequences, estate: Estate, find_heirs: FindHeirs) -> None:
    """Start no sequence any more, and give those that are open to heirs: in bounded time, what is not given stays."""
    sequences.stop_starting()
    if not sequences.open:
        return
    try:
        heirs = await asyncio.wait_for(find_heirs(), FIND_S)
        async with asyncio.timeout(HAND_OVER_S), _reached(heirs, estate) as tiers:
            await sequences.hand_over(_Offers(estate, tiers).give)
    except (TimeoutError, HeadraceError) as error:
        log.warning("sequences were not handed over in time: %s", error)
    log.info("%d sequences were not handed over", sequences.open)


# The heirs of one version that can be reached, by id.
_Tier = dict[str, ReplicaClient]


@asynccontextmanager
async def _reached(heirs: Sequence[Heir], estate: Estate) -> AsyncIterator[list[_Tier]]:
    """Channels to the heirs: those of the same version first, then the others' from the newest to the oldest."""
    clients = await asyncio.gather(*(_reach(heir, estate) for heir in heirs))
    reached = {
        heir: client for heir, client in zip(heirs, clients, strict=True) if client is not None
    }
    versions = sorted({heir.version for heir in reached}, key=version_order, reverse=True)
    versions.sort(key=lambda version: version != estate.version)
    try:
        yield [
            {heir.id: client for heir, client in reached.items() if heir.version == v}
            for v in versions
        ]
    finally:
        for client in reached.values():
            client.close()


async def _reach(heir: Heir, estate: Estate) -> ReplicaClient | None:
    try:
        return await asyncio.wait_for(connect(heir.address, estate.node, estate.token), _CONNECT_S)
    except (NotReady, Overloaded, TimeoutError):
        log.warning("replica %s cannot be reached to take sequences over", heir.id)
        return None


@dataclass(frozen=True, slots=True)
class _Offers:
    estate: Estate
    tiers: Sequence[_Tier]

    async def give(self, handed: Sequence[HandedSequence], taken: set[SequenceKey]) -> None:
        """Offer sequences to one heir after the other, until each is taken or nobody is left to ask."""
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
        self, handed: Collection[HandedSequence], heirs: Collection[str]
    ) -> Mapping[str, list[HandedSequence]]:
        """Who is asked to take what: every gateway would look for it there."""
        shares: dict[str, list[HandedSequence]] = {}
        for each in handed:
            home = home_of(sequence_name(self.estate.model, each.key), heirs)
            shares.setdefault(home, []).append(each)
        return shares

    async def _offer(
        self,
        heir: str,
        client: ReplicaClient,
        share: Sequence[HandedSequence],
        taken: set[SequenceKey],
    ) -> Collection[SequenceKey]:
        """Offer an heir its share; the sequences that nobody else may be offered."""
        try:
            adopted = await client.adopt(tuple(self.estate.kept), share, _ADOPT_S)
        except DeadlineExceeded:  # it may have them, so that a second heir would make two of one
            return [each.key for each in share]
        except HeadraceError:
            return ()
        if adopted:
            taken.update(adopted)
            self.estate.tell(heir, adopted)
        return adopted
