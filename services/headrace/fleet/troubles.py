"""Model versions that fail again and again: how long their next start waits, and which are in declared trouble.

An unexpected end is a start that failed, or a replica that went without a goodbye or that Serve had to end. One says
little: it is mended at once. Each further one doubles the pause before the next start; and a version that was left
without a replica several times is in trouble, until it has served soundly for minutes. Plain values, without Ray.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from headrace.fleet.entries import Trouble

__all__ = ["DECLARED_AFTER", "MAX_PAUSE_S", "SOUND_S", "Key", "Troubles"]

Key = tuple[str, str]  # name and version

# A version that served so long without an unexpected end is sound: nothing is held against it any more.
SOUND_S = 300.0
# So many times without any replica: one or two may be chance, or somebody who kills a process.
DECLARED_AFTER = 3
MAX_PAUSE_S = 60.0
_MAX_DOUBLINGS = 6  # then it is longer than that already, and no number of ends overflows
# Ends that come together have one cause, as when a node is lost.
_TOGETHER_S = 1.0


@dataclass(slots=True)
class _Record:
    """Of a version since it was last sound: how often it ended, and how often that left it without a replica."""

    ended_s: float
    reason: str
    ends: int = 1
    downs: int = 0
    is_down: bool = False  # the last end, or what came together with it, was counted as one
    served_s: float | None = None  # since when a replica serves without an end

    @property
    def pause_s(self) -> float:
        return min(MAX_PAUSE_S, 2.0 ** min(self.ends - 2, _MAX_DOUBLINGS)) if self.ends > 1 else 0.0


class Troubles:
    """What the fleet's directory holds against versions."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[Key, _Record] = {}

    def ended(self, key: Key, reason: str, *, is_down: bool) -> None:
        """A replica ended unexpectedly, or did not start; `is_down` if the version has no other one."""
        self.settle()
        now_s = self._clock()
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record(now_s, reason)
        elif now_s - record.ended_s > _TOGETHER_S:
            record.ends += 1
            record.ended_s, record.reason, record.is_down = now_s, reason, False
        record.served_s = None
        if is_down and not record.is_down:
            record.downs += 1
            record.is_down = True

    def serves(self, key: Key) -> None:
        """A replica of the version serves."""
        record = self._records.get(key)
        if record is not None and record.served_s is None:
            record.served_s = self._clock()

    def settle(self) -> None:
        """Forget what has been sound for long enough."""
        now_s = self._clock()
        sound = [
            k
            for k, r in self._records.items()
            if r.served_s is not None and now_s - r.served_s >= SOUND_S
        ]
        for key in sound:
            del self._records[key]

    def pause_s(self, key: Key) -> float:
        """How long a replica of the version waits from now on before it starts."""
        record = self._records.get(key)
        return max(0.0, record.pause_s - (self._clock() - record.ended_s)) if record else 0.0

    def forgive(self, model: str) -> None:
        """An operator says that the next try is worth it."""
        for key in [key for key in self._records if key[0] == model]:
            del self._records[key]

    def keep(self, models: Collection[str]) -> None:
        """Forget all other models."""
        for model in {model for model, _ in self._records} - set(models):
            self.forgive(model)

    def declared(self) -> tuple[Trouble, ...]:
        """The versions in trouble, and why."""
        return tuple(
            Trouble(*key, f"{record.reason}; {record.ends} times of late")
            for key, record in sorted(self._records.items())
            if record.downs >= DECLARED_AFTER
        )
