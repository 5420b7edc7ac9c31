"""The operator's threads: one takes changes, one looks at the index, each in its lane; one looks at the clock."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from headrace.errors import HeadraceError
from headrace.fleet import calls
from headrace.fleet.instructions import Lane
from headrace.operation.operator import Key, Operator
from headrace.operation.wall_clock import WallClock
from headrace.telemetry import logs

__all__ = ["FleetMembers", "operating"]

log = logging.getLogger(__name__)

_TAKE_S = 5.0
_END_S = 5.0
_LOOK_S = 1.0


class FleetMembers:
    """The fleet, asked through its directory."""

    def expect(self, models: Sequence[str]) -> None:
        calls.expect_models(list(models))

    def is_served(self, model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:
        return calls.is_served(model, version, is_wanted, timeout_s)

    def serving(self) -> set[Key]:
        return {(r.spec.name, r.spec.version) for r in calls.read_fleet().replicas}

    def troubles(self) -> Mapping[Key, str]:
        return {(t.model, t.version): t.reason for t in calls.read_fleet().troubles}

    def forgive(self, model: str) -> None:
        calls.forgive(model)


@contextmanager
def operating(operator: Operator, ended: threading.Event) -> Iterator[None]:
    """Carry out orders until `ended`; at the end those that still wait are refused."""
    lanes: tuple[Lane, ...] = ("look", "change")
    threads = [
        threading.Thread(target=_work, args=(operator, lane, ended), name=lane, daemon=True)
        for lane in lanes
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


def _work(operator: Operator, lane: Lane, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            if lane == "change":
                calls.expect_models(
                    operator.models
                )  # said again, for a directory that died has forgotten it
                logs.apply(calls.read_fleet().logging)
                operator.mend()
            order = calls.take_instruction(lane, _TAKE_S)
            if order:
                calls.resolve_instruction(order, operator.carry_out(order))
        except HeadraceError as error:
            log.warning("no orders: %s", error)
            ended.wait(1.0)
        except (
            Exception
        ):  # Ray's errors share no base but Exception, and nobody else takes this lane's orders
            log.exception("the %s lane failed and goes on", lane)
            ended.wait(1.0)


def _watch_clock(ended: threading.Event) -> None:
    """Restart Serve's controller each time that the wall clock was set back, as soon as Ray lets us."""
    clock, is_due = WallClock(), False
    while not ended.wait(_LOOK_S):
        if clock.was_set_back():
            log.warning(
                "the wall clock was set back, by which Serve goes: its controller is started anew"
            )
            is_due = True
        if is_due:
            is_due = not calls.restart_controller()
