"""The events that the platform's parts report, one method each.

These classes ignore every event, which is all that tests and tools need; the listeners in
`prometheus` override their methods. A `watch_` method is called once, with a function that any
thread may call to read the current value.
"""

from collections.abc import Callable
from typing import Protocol

from headrace.errors import Outcome
from headrace.inference.request import Times
from headrace_models.spec import ModelSpec

__all__ = ["Cost", "EdgeEvents", "GatewayEvents", "QueueView", "ReplicaEvents"]


class Cost(Protocol):
    """A batch takes `base_s + cell_s * cells`."""

    base_s: float
    cell_s: float


class QueueView(Protocol):
    """A model's queue: waiting and running rows, and the predicted wait of a new request."""

    @property
    def waiting_rows(self) -> int: ...
    @property
    def running_rows(self) -> int: ...
    @property
    def cost(self) -> Cost: ...
    def wait_s(self) -> float: ...


class ReplicaEvents:
    """Events of a replica process."""

    def batch_ran(self, rows: int, real_cells: int, padding_cells: int) -> None:
        """`real_cells`: rows times their lengths; `padding_cells`: added to match the longest."""

    def batch_repeated(self, runs: int) -> None:
        """A batch failed, and finding the faulty request took `runs` more runs of the model."""

    def request_served(self, times: Times) -> None: ...

    def watch_batcher(self, queue: QueueView) -> None: ...

    def watch_preprocess(self, waiting: Callable[[], int]) -> None:
        """The photos and texts that wait to become tensors."""

    def watch_sequences(self, open_now: Callable[[], int]) -> None: ...

    def sequences_expired(self, number: int) -> None:
        """`number` sequences were idle for too long; their states are gone."""

    def sequences_moved(self, number: int) -> None:
        """Another replica took over `number` sequences."""


class EdgeEvents:
    """Events of any port."""

    def request_failed(self, code: str) -> None:
        """A request ended in the error with this code."""


class GatewayEvents(EdgeEvents):
    """Events of a gateway process."""

    def watch_in_flight(self, requests: Callable[[], int]) -> None: ...

    def version_joined(self, spec: ModelSpec) -> None:
        """This version of a model can get requests from now on."""

    def version_left(self, spec: ModelSpec) -> None:
        """This version gets no new requests unless it joins again."""

    def body_received(self, api: str, seconds: float) -> None:
        """A body took `seconds` to arrive in full, or until it was given up."""

    def request_ended(
        self, model: str, version: str, api: str, status: int, outcome: Outcome, seconds: float
    ) -> None:
        """A request ended `seconds` after its last byte arrived.

        `model` and `version` are those of a spec, or empty; never text from a request.
        """

    def request_retried(self, model: str) -> None: ...

    def watch_waiting(self, requests: Callable[[], int]) -> None:
        """The requests that wait for a replica."""

    def request_waited(self, model: str, seconds: float) -> None:
        """A request waited for a replica, whether one came or not."""

    def model_troubled(self, model: str, *, is_troubled: bool) -> None:
        """A model that should be served fails again and again, or has recovered."""

    def loop_lagged(self, seconds: float) -> None: ...

    def watch_quarantine(self, inputs: Callable[[], int]) -> None:
        """The inputs that are refused because they crash processes or never finish."""

    def poison_refused(self, model: str) -> None: ...

    def cache_hit(self, model: str) -> None: ...

    def cache_missed(self, model: str) -> None:
        """A request whose answer was not cached went to a replica."""

    def cache_shared(self, model: str) -> None:
        """A request waits for the answer to an equal request that is already running."""
