"""A backend that stops in its batches until a test lets it go."""

import threading
from collections.abc import Mapping

from headrace import backends
from headrace.backends import Backend
from headrace.inference.tensor import Array
from headrace_models.repository import ModelVersion

__all__ = ["GateLoader", "GatedBackend"]

_TIMEOUT_S = 20.0


class GatedBackend:
    """A model's own backend behind a gate, which is open at first; it raises while `is_broken`.

    `entered` is set when a batch comes in. Since the gate was last shut: `sizes` of the batches,
    and `rows`, the first number of each of their rows.
    """

    device = "cpu"
    lanes = 1

    def __init__(self, version: ModelVersion, name: str) -> None:
        self._real: Backend = backends.load(version, name)
        self._gate = threading.Event()
        self._gate.set()
        self.entered = threading.Event()
        self.is_broken = False
        self.sizes: list[int] = []
        self.rows: list[float] = []

    def shut(self) -> None:
        self.entered.clear()
        self.sizes.clear()
        self.rows.clear()
        self._gate.clear()

    def open(self) -> None:
        self._gate.set()

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        first = next(iter(inputs.values()))
        self.sizes.append(len(first))
        self.rows += first.reshape(len(first), -1)[:, 0].tolist()
        self.entered.set()
        assert self._gate.wait(_TIMEOUT_S), "nobody opened the gate"
        if self.is_broken:
            raise RuntimeError("broken")
        return self._real.run(inputs)


class GateLoader:
    """Loads one GatedBackend and keeps it for the test."""

    backend: GatedBackend

    def __call__(self, version: ModelVersion, name: str) -> GatedBackend:
        self.backend = GatedBackend(version, name)
        return self.backend
