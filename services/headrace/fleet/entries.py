"""The fleet's entries: processes, replicas and troubles, as plain values. No Ray."""

from dataclasses import dataclass, field

from headrace.channel import Address
from headrace.telemetry.logs import LogSettings
from headrace_models.spec import BackendName, ModelSpec

__all__ = ["Fleet", "ProcessEntry", "ReplicaEntry", "Trouble"]


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """A process of the platform; `metrics` is the address of its metrics (`host:port`)."""

    id: str
    role: str
    metrics: str
    pid: int
    node: str


@dataclass(frozen=True, slots=True)
class ReplicaEntry:
    """A replica that serves `spec` at `address`; `labels` are the classes of its output."""

    id: str
    spec: ModelSpec
    labels: tuple[str, ...]
    address: Address
    backend: BackendName


@dataclass(frozen=True, slots=True)
class Trouble:
    """A version that fails again and again; `reason` is one sentence, without paths."""

    model: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """The live replicas and processes, the models that should be served, log settings and troubles.

    `revision` grows with each change.
    """

    revision: int
    models: tuple[str, ...]
    replicas: tuple[ReplicaEntry, ...]
    processes: tuple[ProcessEntry, ...]
    logging: LogSettings = field(default_factory=LogSettings)
    troubles: tuple[Trouble, ...] = ()
