"""Which replica a sequence's steps go to: a choice that every gateway makes alike, and a memory of those made here."""

from collections.abc import Collection
from hashlib import blake2b

from headrace.errors import NotReady, SequenceLost

__all__ = ["Holders", "home_of"]

MAX_HELD = 100_000


def home_of(key: str, replicas: Collection[str]) -> str:
    """The replica of these where a sequence begins: the one of the highest weight, a hash of both names.

    Gateways agree on it without a word, and when replicas come or go, it changes only for the sequences that these
    take or had.
    """
    return max(replicas, key=lambda replica: blake2b(f"{replica}\0{key}".encode(), digest_size=8).digest())


class Holders:
    """The replicas that hold the sequences of which this gateway sent a step; beyond `most`, the last used ones."""

    def __init__(self, most: int = MAX_HELD) -> None:
        self._most = most
        self._held: dict[str, str] = {}  # sequence -> replica, the last used at the end

    def find(self, key: str, *, starts: bool, members: Collection[str], ready: Collection[str]) -> str:
        """The replica that a step goes to. `members` are all of the version's replicas, `ready` can be asked now.

        A sequence that starts anew stays where it was, as other gateways know it there, unless that replica is gone.
        Raises SequenceLost if it is gone and the step needs its state, NotReady if it cannot be asked now.
        """
        holder = self._held.get(key)
        if holder is not None and holder not in members:
            if not starts:
                raise SequenceLost("the sequence's state was lost with its replica: begin it again, by sequence_start")
            holder = None
        if holder is None and ready:
            holder = home_of(key, ready)
        if holder is None or holder not in ready:
            raise NotReady("the sequence's replica cannot be asked now", retry_after_s=1)
        self._hold(key, holder)
        return holder

    def forget(self, key: str) -> None:
        self._held.pop(key, None)

    def _hold(self, key: str, holder: str) -> None:
        self._held.pop(key, None)
        self._held[key] = holder
        if len(self._held) > self._most:
            del self._held[next(iter(self._held))]
