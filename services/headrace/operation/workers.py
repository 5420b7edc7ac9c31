"""The operator's threads: for changes, for the index, and to watch the wall clock."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from headrace.errors import HeadraceError
from headrace.fleet import calls
from headrace.fleet.instructions import QueueName
from headrace.operation.operator import Operator
from headrace.operation.wall_clock import WallClock
from headrace.telemetry import logs
from headrace_models.names import VersionId

__all__ = ["FleetMembers", "operating"]

log = logging.getLogger(__name__)

_TAKE_S = 5.0
_PAUSE_S = 1.0
_END_S = 5.0
_CLOCK_PERIOD_S = 1.0


class FleetMembers:
    """The fleet, as its directory knows it."""

    def expect(self, models: Sequence[str]) -> None:
        calls.expect_models(list(models))

    def is_served(self, model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:
        return calls.is_served(model, version, is_wanted, timeout_s)

    def serving(self) -> set[VersionId]:
        return {(r.spec.name, r.spec.version) for r in calls.read_fleet().replicas}

    def troubles(self) -> Mapping[VersionId, str]:
        return {(t.model, t.version): t.reason for t in calls.read_fleet().troubles}

    def forgive(self, model: str) -> None:
        calls.forgive(model)


@contextmanager
def operating(operator: Operator, ended: threading.Event) -> Iterator[None]:
    """Carry out instructions until `ended`; at the end refuse those that still wait."""
    queues: tuple[QueueName, ...] = ("index", "change")
    threads = [
        threading.Thread(target=_work, args=(operator, queue, ended), name=queue, daemon=True)
        for queue in queues
    ]
    threads.append(threading.Thread(target=_watch_clock, args=(ended,), name="clock", daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        with suppress(HeadraceError):
            calls.close_instructions()
        for thread in threads:
            thread.join(_END_S)


def _work(operator: Operator, queue: QueueName, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            if queue == "change":
                _refresh(operator)
            instruction = calls.take_instruction(queue, _TAKE_S)
            if instruction:
                calls.resolve_instruction(instruction, operator.carry_out(instruction))
        except HeadraceError as error:
            log.warning("could not take an instruction: %s", error)
            ended.wait(_PAUSE_S)
        except Exception:  # Ray's errors share no other base, and no other thread serves this queue
            log.exception("the %s worker failed; it goes on", queue)
            ended.wait(_PAUSE_S)


def _refresh(operator: Operator) -> None:
    """Repeat what a restarted directory has lost, follow its log settings, and redeploy."""
    calls.expect_models(operator.models)
    logs.apply(calls.read_fleet().logging)
    operator.redeploy()


def _watch_clock(ended: threading.Event) -> None:
    """Restart Serve's controller after the wall clock was set back, as soon as Ray allows it."""
    clock = WallClock()
    is_due = False
    while not ended.wait(_CLOCK_PERIOD_S):
        if clock.was_set_back():
            log.warning("the wall clock was set back; restarting Serve's controller, which uses it")
            is_due = True
        if is_due:
            is_due = not calls.restart_controller()
