"""The replicas that have sequences, as far as this gateway knows."""

from typing import NamedTuple

from cachetools import LRUCache

__all__ = ["Holder", "SequenceTable"]

MAX_HELD = 100_000


class Holder(NamedTuple):
    """A replica's id in the fleet; `successor_of` is the one that it took the sequence from."""

    id: str
    successor_of: str = ""


class SequenceTable:
    """Holders by the sequences' names in the fleet; at most `most`, those used last."""

    def __init__(self, most: int = MAX_HELD) -> None:
        self._holders: LRUCache[str, Holder] = LRUCache(most)

    def find(self, name: str) -> Holder | None:
        return self._holders.get(name)

    def hold(self, name: str, replica: str) -> None:
        """Note that a step goes to a replica."""
        holder = self._holders.get(name)
        if holder is None or holder.id != replica:
            self._holders[name] = Holder(replica)

    def move(self, name: str, source: str, successor: str) -> None:
        """Note a successor, unless the sequence is known to be elsewhere than at the source."""
        holder = self._holders.get(name)
        if holder is None or holder.id == source:
            self._holders[name] = Holder(successor, source)

    def forget(self, name: str) -> None:
        self._holders.pop(name, None)
