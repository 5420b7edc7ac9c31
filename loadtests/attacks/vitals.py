"""Vital signs under attack: memory, and how long the gateway's loop kept a caller waiting."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from time import monotonic, sleep

from loadtests.support.child_process import child_process
from loadtests.support.metrics import samples
from loadtests.support.ports import HOST
from loadtests.support.proc import status_bytes
from loadtests.support.process_platform import ProcessPlatform

__all__ = ["Pinger", "lag_bound_s", "peak_growth_bytes", "pinging", "resident_bytes"]

_PING = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PERIOD_S = 0.002
_TIMEOUT_S = 10.0
_LAG = "headrace_loop_lag_seconds_bucket"


def resident_bytes(pids: Sequence[int]) -> list[int]:
    """Resident memory of each process; also resets its high-water mark."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return [status_bytes(pid, "VmRSS") for pid in pids]


def peak_growth_bytes(pids: Sequence[int], before: Sequence[int]) -> list[int]:
    """Growth of each process at its largest since `resident_bytes` returned `before`."""
    return [status_bytes(pid, "VmHWM") - held for pid, held in zip(pids, before, strict=True)]


def lag_bound_s(at: ProcessPlatform, before: dict[float, float]) -> float:
    """The bucket of the worst lag that the gateway counted since `before`; updates `before`."""
    now = _buckets(at)
    bounds = sorted(now)
    grown = [now[bound] - before.get(bound, 0.0) for bound in bounds]
    before |= now
    return next(
        (bound for bound, count in zip(bounds, grown, strict=True) if count == grown[-1]), 0.0
    )


def _buckets(at: ProcessPlatform) -> dict[float, float]:
    return {
        float(sample.labels["le"]): sample.value
        for sample in samples(at.metrics)
        if sample.name == _LAG
    }


class Pinger:
    """Probes the gateway's health every 2 ms from its own process, which updates `worst`."""

    def __init__(self, worst: "SynchronizedArray[float]") -> None:
        self._worst = worst

    def worst_s(self) -> tuple[float, float]:
        """Since the last call: the slowest answer, and the latest that the pinger itself woke.

        The second is the machine's part: a process that was not scheduled sees its answers late,
        too.
        """
        with self._worst.get_lock():
            found = self._worst[0], self._worst[1]
            self._worst[:] = [0.0, 0.0]
        return found


@contextmanager
def pinging(port: int) -> Iterator[Pinger]:
    worst = get_context("spawn").Array("d", 2)
    with child_process(_ping, port, worst):
        yield Pinger(worst)


def _ping(port: int, worst: "SynchronizedArray[float]", parent: Connection) -> None:
    parent.send(None)
    while not parent.poll():
        _ping_on_one_connection(port, worst, parent)


def _ping_on_one_connection(
    port: int, worst: "SynchronizedArray[float]", parent: Connection
) -> None:
    """Probe until the gateway closes the connection, or the parent ends."""
    with socket.create_connection((HOST, port), _TIMEOUT_S) as sock:
        while not parent.poll():
            began_s = monotonic()
            sock.sendall(_PING)
            if b"connection: close" in sock.recv(65536):
                return
            ended_s = monotonic()
            sleep(_PERIOD_S)
            late_s = monotonic() - ended_s - _PERIOD_S
            with worst.get_lock():
                worst[:] = [max(worst[0], ended_s - began_s), max(worst[1], late_s)]
