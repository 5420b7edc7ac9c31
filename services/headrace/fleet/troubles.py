"""Model versions that fail again and again: pauses before their starts, and declared trouble.

An unexpected end is a start that failed, a replica that vanished, or one that Serve had to end.
After the first one the replica restarts at once; each further one doubles the pause before the next
start. A version that was left without a replica several times is in trouble until it has served for
minutes without an unexpected end. No Ray.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from headrace.fleet.entries import Trouble
from headrace_models.names import VersionId

__all__ = ["DECLARED_AFTER", "MAX_PAUSE_S", "SOUND_S", "Troubles"]

# A version that served this long without an unexpected end is sound, and its record is deleted.
SOUND_S = 300.0
# Times without any replica; one or two may be chance, or somebody who kills a process.
DECLARED_AFTER = 3
MAX_PAUSE_S = 60.0
_MAX_DOUBLINGS = 6  # exceeds MAX_PAUSE_S already; bounded so that many ends cannot overflow
# Ends that come together have one cause, as when a node is lost.
_TOGETHER_S = 1.0


@dataclass(slots=True)
class _Record:
    """A version's unexpected ends; `downs` of them left it without a replica."""

    ended_s: float
    reason: str
    ends: int = 1
    downs: int = 0
    is_down: bool = False  # the last end, or one together with it, counts in `downs`
    served_s: float | None = None  # a replica has served since then without an end

    @property
    def pause_s(self) -> float:
        return min(MAX_PAUSE_S, 2.0 ** min(self.ends - 2, _MAX_DOUBLINGS)) if self.ends > 1 else 0.0


class Troubles:
    """Records of the versions that ended unexpectedly."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[VersionId, _Record] = {}

    def ended(self, key: VersionId, reason: str, *, is_down: bool) -> None:
        """Record an unexpected end; `is_down` if the version has no other replica."""
        self.forget_sound()
        now_s = self._clock()
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record(now_s, reason)
        elif now_s - record.ended_s > _TOGETHER_S:
            record.ends += 1
            record.ended_s = now_s
            record.reason = reason
            record.is_down = False
        record.served_s = None
        if is_down and not record.is_down:
            record.downs += 1
            record.is_down = True

    def serves(self, key: VersionId) -> None:
        """Record that a replica of the version serves."""
        record = self._records.get(key)
        if record is not None and record.served_s is None:
            record.served_s = self._clock()

    def forget_sound(self) -> None:
        """Delete the records of versions that have been sound for long enough."""
        now_s = self._clock()
        for key, record in list(self._records.items()):
            if record.served_s is not None and now_s - record.served_s >= SOUND_S:
                del self._records[key]

    def pause_s(self, key: VersionId) -> float:
        """The time from now until a replica of the version may start."""
        record = self._records.get(key)
        if record is None:
            return 0.0
        # In this order rounding cannot make it longer than the pause.
        return max(0.0, record.pause_s - (self._clock() - record.ended_s))

    def forgive(self, model: str) -> None:
        """Delete a model's records, because an operator changed or loaded it."""
        for key in [key for key in self._records if key[0] == model]:
            del self._records[key]

    def retain(self, models: Collection[str]) -> None:
        """Delete the records of all other models."""
        for model in {model for model, _ in self._records} - set(models):
            self.forgive(model)

    def declared(self) -> tuple[Trouble, ...]:
        """The versions in trouble, with their reasons."""
        return tuple(
            Trouble(*key, f"{record.reason}; {record.ends} times recently")
            for key, record in sorted(self._records.items())
            if record.downs >= DECLARED_AFTER
        )
