"""Calls to the directory over Ray: bounded, in JSON, with Ray's errors translated to ours.

Calls that wait for the operator hold no thread, since many may wait at once.
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
    as_process,
    as_processes,
    as_result,
)
from headrace.fleet.entries import Fleet, ProcessEntry
from headrace.fleet.instructions import IndexEntry, Instruction, QueueName, Result
from headrace.fleet.troubles import MAX_PAUSE_S
from headrace.telemetry.logs import LogSettings

__all__ = [
    "begin_start",
    "call_directory",
    "change_logging",
    "close_instructions",
    "expect_models",
    "forgive",
    "give_instruction",
    "is_served",
    "read_fleet",
    "report_dead",
    "report_ended",
    "resolve_instruction",
    "restart_controller",
    "start_directory",
    "take_instruction",
]

log = logging.getLogger(__name__)

# The number changes with the directory's methods: it lives as long as its cluster, and one of
# another release would be taken by its name.
NAME, NAMESPACE = "headrace-directory-2", "headrace"
CALL_TIMEOUT_S = 10.0
# A change waits for those before it, and starts a model, which may take five minutes.
_INSTRUCTION_S = {"index": 30.0, "load": 330.0, "unload": 330.0}


def start_directory(models: list[str]) -> None:
    """Start the directory, or set the expected models of the one that runs."""
    options = {"name": NAME, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    actor: Any = (
        ray.remote(Directory)
        .options(**options, num_cpus=0, max_restarts=-1, max_task_retries=3, max_concurrency=1000)
        .remote(models)
    )
    ray.get(actor.expect.remote(models), timeout=60)


def call_directory(method: str, *arguments: object, wait_s: float = 0.0) -> Any:  # noqa: ANN401 - bytes, bool or None
    """Call a method that may itself wait for `wait_s`.

    Raises Unavailable if the directory does not answer.
    """
    try:
        return ray.get(_start(method, *arguments), timeout=wait_s + CALL_TIMEOUT_S)
    except (RayError, ValueError, TimeoutError) as error:
        raise _unavailable(error) from error


async def _call_async(method: str, *arguments: object, wait_s: float) -> Any:  # noqa: ANN401 - bytes, bool or None
    """Call from an event loop, without holding a thread while the directory waits.

    Raises Unavailable likewise.
    """
    try:
        answer = await asyncio.to_thread(_start, method, *arguments)
        return await asyncio.wait_for(asyncio.wrap_future(answer.future()), wait_s + CALL_TIMEOUT_S)
    except (RayError, ValueError, TimeoutError) as error:
        raise _unavailable(error) from error


def _start(method: str, *arguments: object) -> Any:  # noqa: ANN401 - Ray's handles have their methods at run time only
    return getattr(ray.get_actor(NAME, namespace=NAMESPACE), method).remote(*arguments)


def _unavailable(error: Exception) -> HeadraceError:
    return Unavailable(
        f"the fleet's directory does not answer ({type(error).__name__}); "
        "it restarts by itself, so try again",
        retry_after_s=1,
    )


async def give_instruction(instruction: Instruction) -> tuple[IndexEntry, ...]:
    """Have the operator carry out an instruction; the index, if it asked for that.

    Raises the error it ended with.
    """
    wait_s = _INSTRUCTION_S[instruction.kind]
    result = await _call_async(
        "give_instruction", as_instruction.dump_json(instruction), wait_s, wait_s=wait_s
    )
    return as_result.validate_json(result).entries()


async def change_logging(settings: LogSettings) -> LogSettings:
    """Change the log settings: of gateways at once, of replicas with their next report."""
    return as_logging.validate_json(
        await _call_async("set_logging", as_logging.dump_json(settings), wait_s=CALL_TIMEOUT_S)
    )


def take_instruction(queue: QueueName, timeout_s: float) -> Instruction | None:
    taken = call_directory("take_instruction", queue, timeout_s, wait_s=timeout_s)
    return as_instruction.validate_json(taken) if taken else None


def resolve_instruction(instruction: Instruction, result: Result) -> None:
    call_directory("resolve_instruction", instruction.id, as_result.dump_json(result))


def close_instructions() -> None:
    call_directory("close_instructions")


def expect_models(models: list[str]) -> None:
    call_directory("expect", models)


def begin_start(process: ProcessEntry, model: str, version: str) -> None:
    """Report that a replica starts, and wait out the pause after unexpected ends.

    Also reports replicas of this version on this node that were killed. Without a directory there
    is no wait.
    """
    try:
        others = as_processes.validate_json(
            call_directory("begin", as_process.dump_json(process), model, version)
        )
        report_dead(others)
        call_directory("may_start", model, version, MAX_PAUSE_S, wait_s=MAX_PAUSE_S)
    except HeadraceError as error:
        log.warning("starting without the directory: %s", error)


def forgive(model: str) -> None:
    """Forget a model's unexpected ends, so that its replicas start at once."""
    call_directory("forgive", model)


def report_dead(processes: Iterable[ProcessEntry]) -> None:
    """Report this node's processes that were killed, since they could not do so themselves."""
    for process in processes:
        if not Path(f"/proc/{process.pid}").exists():
            report_ended(process.id)


def report_ended(process_id: str, reason: str = "its process ended unexpectedly") -> None:
    """Report that a process has ended, and why.

    If the report is lost, missing heartbeats reveal the end.
    """
    with suppress(HeadraceError):
        call_directory("ended", process_id, reason)


def is_served(model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:
    """Wait until a version is served, or no longer, and all gateways know; False if too late."""
    return bool(
        call_directory(
            "served", model, version, is_wanted, timeout_s, wait_s=timeout_s + CALL_TIMEOUT_S
        )
    )


def read_fleet() -> Fleet:
    return as_fleet.validate_json(call_directory("follow", 0, 0.0))


def restart_controller() -> bool:
    """Kill Serve's controller. Ray restarts it with its state, and the replicas go on meanwhile.

    False if there is no controller now.
    """
    try:
        ray.kill(ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE), no_restart=False)
    except (RayError, ValueError) as error:
        log.warning("Serve's controller could not be restarted: %s", type(error).__name__)
        return False
    return True
