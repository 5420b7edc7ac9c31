"""Calls to the directory over Ray: every one bounded, values as JSON, and Ray's errors translated here.

Those that wait for the operator wait without a thread, since many may wait at once.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from headrace.errors import HeadraceError, Unavailable
from headrace.fleet.directory import (
    Directory,
    as_fleet,
    as_instruction,
    as_logging,
    as_outcome,
    as_process,
    as_processes,
)
from headrace.fleet.entries import Fleet, ProcessEntry
from headrace.fleet.instructions import IndexEntry, Instruction, Lane, Outcome
from headrace.fleet.troubles import MAX_PAUSE_S
from headrace.telemetry.logs import LogSettings

__all__ = [
    "ask_directory",
    "begin_start",
    "change_logging",
    "close_instructions",
    "expect_models",
    "forgive",
    "give_instruction",
    "is_served",
    "read_fleet",
    "resolve_instruction",
    "restart_controller",
    "start_directory",
    "take_instruction",
    "tell_dead",
    "tell_ended",
]

log = logging.getLogger(__name__)

NAME, NAMESPACE = "headrace-directory", "headrace"
CALL_TIMEOUT_S = 10.0
# A change waits for those before it, and starts a model, which may take five minutes.
_ORDER_S = {"index": 30.0, "load": 330.0, "unload": 330.0}


def start_directory(models: list[str]) -> None:
    """Start the directory, or tell the one that runs which models are expected."""
    options = {"name": NAME, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    actor: Any = (
        ray.remote(Directory)
        .options(**options, num_cpus=0, max_restarts=-1, max_task_retries=3, max_concurrency=1000)
        .remote(models)
    )
    ray.get(actor.expect.remote(models), timeout=60)


def ask_directory(method: str, *arguments: object, wait_s: float = 0.0) -> Any:  # noqa: ANN401 - bytes, bool or None
    """Call a method that may itself wait for `wait_s`. Raises Unavailable if the directory does not answer."""
    try:
        return ray.get(_start(method, *arguments), timeout=wait_s + CALL_TIMEOUT_S)
    except (RayError, ValueError, TimeoutError) as error:
        raise _silent(error) from error


async def _ask(method: str, *arguments: object, wait_s: float) -> Any:  # noqa: ANN401 - bytes, bool or None
    """The same, from any event loop and without holding a thread while the directory waits."""
    try:
        answer = await asyncio.to_thread(_start, method, *arguments)
        return await asyncio.wait_for(asyncio.wrap_future(answer.future()), wait_s + CALL_TIMEOUT_S)
    except (RayError, ValueError, TimeoutError) as error:
        raise _silent(error) from error


def _start(method: str, *arguments: object) -> Any:  # noqa: ANN401 - Ray's handles have their methods at run time only
    return getattr(ray.get_actor(NAME, namespace=NAMESPACE), method).remote(*arguments)


def _silent(error: Exception) -> HeadraceError:
    return Unavailable(
        f"the fleet's directory does not answer ({type(error).__name__})", retry_after_s=1
    )


async def give_instruction(order: Instruction) -> tuple[IndexEntry, ...]:
    """Have the operator carry out an order; the index, if that was the order. Raises what came of it."""
    wait_s = _ORDER_S[order.kind]
    answer = await _ask("order", as_instruction.dump_json(order), wait_s, wait_s=wait_s)
    return as_outcome.validate_json(answer).entries()


async def change_logging(settings: LogSettings) -> LogSettings:
    """Have every process log by these settings; gateways do when this returns, replicas within their next report."""
    return as_logging.validate_json(
        await _ask("set_logging", as_logging.dump_json(settings), wait_s=CALL_TIMEOUT_S)
    )


def take_instruction(lane: Lane, timeout_s: float) -> Instruction | None:
    taken = ask_directory("take_instruction", lane, timeout_s, wait_s=timeout_s)
    return as_instruction.validate_json(taken) if taken else None


def resolve_instruction(order: Instruction, outcome: Outcome) -> None:
    ask_directory("resolve_instruction", order.id, as_outcome.dump_json(outcome))


def close_instructions() -> None:
    ask_directory("close_instructions")


def expect_models(models: list[str]) -> None:
    ask_directory("expect", models)


def begin_start(process: ProcessEntry, model: str, version: str) -> None:
    """Say that a replica starts, and wait as long as it should after unexpected ends of its version.

    Another one of this node that is gone without a word, as a killed process is, is told of. Without a directory the
    start is at once.
    """
    try:
        others = as_processes.validate_json(
            ask_directory("begin", as_process.dump_json(process), model, version)
        )
        tell_dead(others)
        ask_directory("may_start", model, version, MAX_PAUSE_S, wait_s=MAX_PAUSE_S)
    except HeadraceError as error:
        log.warning("starting without the directory: %s", error)


def forgive(model: str) -> None:
    """Hold nothing against a model any more, and start its replicas at once."""
    ask_directory("forgive", model)


def tell_dead(processes: Iterable[ProcessEntry]) -> None:
    """Say of processes of this node which of them are gone: one that was killed has said nothing itself."""
    for process in processes:
        if not Path(f"/proc/{process.pid}").exists():
            tell_ended(process.id)


def tell_ended(process_id: str, reason: str = "its process ended unexpectedly") -> None:
    """Say that a process has ended, and why. If that is not heard, its silence tells."""
    with suppress(HeadraceError):
        ask_directory("ended", process_id, reason)


def is_served(model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:
    """Wait until a version is served, or is not any more, and all gateways know."""
    return bool(
        ask_directory(
            "served", model, version, is_wanted, timeout_s, wait_s=timeout_s + CALL_TIMEOUT_S
        )
    )


def read_fleet() -> Fleet:
    return as_fleet.validate_json(ask_directory("follow", 0, 0.0))


def restart_controller() -> bool:
    """End Serve's controller, which Ray starts again with all that it knew; what it looks after goes on meanwhile.

    False if there is none now.
    """
    try:
        ray.kill(ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE), no_restart=False)
    except (RayError, ValueError) as error:
        log.warning("Serve's controller could not be restarted: %s", type(error).__name__)
        return False
    return True
