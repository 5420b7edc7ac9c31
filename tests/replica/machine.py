"""A machine of virtual time, on which runs take given times, under a real watch."""

from collections.abc import Mapping
from threading import get_ident

from headrace.errors import InferenceFailed
from headrace.inference.tensor import Array
from headrace.replica.tries import Tries
from headrace.replica.watch import LOOK_S, Watch

__all__ = ["ENDLESS", "FAILING", "GOOD", "REFUSED", "Machine"]

GOOD, REFUSED, FAILING, ENDLESS = range(4)


class Machine:
    """Also the backend: `x` is the fate of each row, and a batch has the `worst` of its rows.

    A batch takes `base_s` and `row_s` for each row, whether it fails or not.
    """

    device = "cpu"
    lanes = 1

    def __init__(
        self, base_s: float, row_s: float, worst: tuple[int, ...] = (ENDLESS, FAILING, REFUSED)
    ) -> None:
        self.base_s, self.row_s, self.worst = base_s, row_s, worst
        self.now_s = 0.0
        self.runs = 0
        self._is_told = False
        self._watch = Watch(
            self, lambda _: None, clock=lambda: self.now_s, cpu_clock=lambda _: self.now_s
        )

    def seconds(self, rows: int) -> float:
        return self.base_s + self.row_s * rows

    def tries(self, rows: int, deadline_s: float = float("inf")) -> Tries:
        """For a batch of so many rows, which is expected to take what it does."""
        return Tries(self._watch, self.seconds(rows), deadline_s, self.now_s, lambda: self.now_s)

    def stop(self, thread: int) -> None:
        assert thread == get_ident()
        self._is_told = True

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.runs += 1
        x = inputs["x"]
        kind = next((kind for kind in self.worst if kind in x), GOOD)
        self._is_told = False
        self._go_on(1e6 if kind == ENDLESS else self.seconds(len(x)))
        if kind == REFUSED:
            raise RuntimeError("INVALID_ARGUMENT")
        if kind == FAILING:
            raise RuntimeError("a fault")
        return {"y": x}

    def _go_on(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + LOOK_S)
            self._watch.look()
            if self._is_told:
                raise InferenceFailed("told to stop")
