"""A version of a model as the gateway knows it: its spec, its wire format, and its replicas."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from headrace.channel import ReplicaClient
from headrace.errors import NotReady
from headrace.gateway.routing.waiting import VersionQueue
from headrace.gateway.wire.infer import Codec
from headrace_models.spec import BackendName, ModelSpec

__all__ = ["SILENT", "Version", "least_busy"]

# The reason why a version without trouble is not ready.
SILENT = "none of its replicas answers now"
# When to ask again for a model in trouble: its replicas restart after pauses of up to a minute.
_TROUBLE_S = 30


@dataclass(eq=False)
class Version:
    """`labels` are the classes of its labelled output.

    `members` are its replicas in the fleet, `clients` those of them that a channel leads to now;
    requests wait for these in the `queue`. `trouble` says, in a sentence, why the version fails
    again and again; it is empty if all is well.
    """

    spec: ModelSpec
    labels: tuple[str, ...]
    codec: Codec
    backend: BackendName
    members: set[str] = field(default_factory=set)
    clients: dict[str, ReplicaClient] = field(default_factory=dict)
    trouble: str = ""

    def __post_init__(self) -> None:
        self.queue = VersionQueue(self.spec, self.clients)

    @property
    def is_ready(self) -> bool:
        """It can answer now, though in trouble it may fail again soon."""
        return any(r.is_ready for r in self.clients.values())

    @property
    def is_sound(self) -> bool:
        return self.is_ready and not self.trouble

    def not_ready(self, *, may_pass: bool = False) -> NotReady:
        """Make the error that says why the version does not answer."""
        name = self.spec.name
        if self.trouble:
            return NotReady(
                f'model "{name}" is not ready: {self.trouble}', retry_after_s=_TROUBLE_S
            )
        return NotReady(
            f'model "{name}" is not ready: {SILENT}; repeat after Retry-After',
            retry_after_s=1,
            may_pass=may_pass,
        )


class Busy(Protocol):
    @property
    def outstanding(self) -> int:
        """Requests that were sent to it and that it has not answered."""


B = TypeVar("B", bound=Busy)


def least_busy(ready: Sequence[B]) -> B:
    """Pick the replica with the fewest outstanding requests, the first of equals."""
    return min(ready, key=lambda replica: replica.outstanding) if len(ready) > 1 else ready[0]
