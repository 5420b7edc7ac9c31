"""Which replica has a sequence, as far as this gateway knows: it remembers where it asked, and what it was told."""

from typing import NamedTuple

__all__ = ["Holder", "SequenceTable"]

MAX_HELD = 100_000


class Holder(NamedTuple):
    """A replica's id in the fleet; `successor_of`, if it took the sequence over, is the replica that it has it from."""

    id: str
    successor_of: str = ""


class SequenceTable:
    """Sequences by their names in the fleet; beyond `most`, those last used."""

    def __init__(self, most: int = MAX_HELD) -> None:
        self._most = most
        self._held: dict[str, Holder] = {}  # the last used at the end

    def find(self, name: str) -> Holder | None:
        return self._held.get(name)

    def hold(self, name: str, replica: str) -> None:
        """A step was sent there: the sequence is used."""
        holder = self._held.pop(name, None)
        self._put(name, holder if holder is not None and holder.id == replica else Holder(replica))

    def move(self, name: str, source: str, successor: str) -> None:
        """An successor has what the source had. What is known to be elsewhere is not the source's to move any more."""
        holder = self._held.get(name)
        if holder is None or holder.id == source:
            self._held.pop(name, None)
            self._put(name, Holder(successor, source))

    def forget(self, name: str) -> None:
        self._held.pop(name, None)

    def _put(self, name: str, holder: Holder) -> None:
        self._held[name] = holder
        if len(self._held) > self._most:
            del self._held[next(iter(self._held))]
