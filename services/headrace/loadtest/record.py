"""The exact time and failure of each request; Locust rounds times above 100 ms."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter

import orjson

__all__ = ["Record"]


class Record:
    """Times and failures by model, since its creation, when the users start.

    `models` are listed even if unused.

    Written as `{"ran_s", "took_s", "models": {name: {"times_ms": [...], "failures": {reason:
    count}}}}`: the users ran for `ran_s`, the last answer came after `took_s`, and `times_ms` has
    one time per request, failed ones too, in milliseconds with three decimals.
    """

    def __init__(self, models: Iterable[str] = ()) -> None:
        self.began_s = perf_counter()
        self.ran_s = 0.0
        self.took_s = 0.0
        self.times_ms: dict[str, list[float]] = defaultdict(list, {model: [] for model in models})
        self.failures: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, model: str, took_ms: float, failure: str | None) -> None:
        self.times_ms[model].append(round(took_ms, 3))
        self.took_s = self._now_s()
        if failure is not None:
            self.failures[model][failure] += 1

    def end(self) -> None:
        """Mark the end of the run; later requests may be cut off."""
        self.ran_s = self._now_s()

    @property
    def has_ended(self) -> bool:
        return self.ran_s > 0

    def write(self, path: Path) -> None:
        models = {
            name: {"times_ms": times, "failures": self.failures[name]}
            for name, times in self.times_ms.items()
        }
        path.write_bytes(
            orjson.dumps({"ran_s": self.ran_s, "took_s": self.took_s, "models": models})
        )

    def _now_s(self) -> float:
        return perf_counter() - self.began_s
