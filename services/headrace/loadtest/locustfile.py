"""Users of all served models: real requests for the zoo's, golden rows for others.

Models are looked up when the test starts. A model that cannot be used is left out, and a line gives
the reason.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
from locust import FastHttpUser, TaskSet, constant_throughput, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from headrace.config import Settings, own_authorization
from headrace.errors import StartFailed
from headrace.loadtest import any_model, zoo
from headrace.loadtest.checked_request import CheckedRequest
from headrace.loadtest.record import Record
from headrace.loadtest.server import not_ready, served_models
from headrace_models.errors import ModelError

__all__ = ["Caller"]

_REQUESTS_A_SECOND = 2.0
_NO_MODEL = 2

Task = TaskSet | Callable[..., Any]  # as Locust has it
Say = Callable[[str], None]


class Caller(FastHttpUser):
    """One caller: at most two requests a second, each after the answer to the one before."""

    wait_time = constant_throughput(_REQUESTS_A_SECOND)
    insecure = False
    tasks: list[Task] = []  # noqa: RUF012 - Locust's own declaration; filled when the test starts
    record = Record()  # of this run; a new one when the test starts

    def send(self, request: CheckedRequest) -> None:
        """Send one request, counted under its model; a wrong or missing answer is a failure."""
        # At the end Locust may kill a user right after its pause, which left no time to answer.
        has_time = not self.record.has_ended
        began_s = perf_counter()
        try:
            with self.client.post(
                request.path,
                data=request.body,  # type: ignore[arg-type]  # bytes are sent as they are, Locust's annotation forgets them
                headers={**request.headers, **own_authorization()},
                name=request.model,
                catch_response=True,
            ) as response:
                # Locust itself reports other statuses (0 is no answer); it takes all of these for
                # success.
                status = response.status_code
                if 0 < status < 400 and not (
                    status == 200 and request.accepts(response.content or b"")
                ):
                    response.failure("wrong answer")
        except gevent.GreenletExit:
            if has_time:
                self.record.add(
                    request.model, (perf_counter() - began_s) * 1e3, "no answer before the end"
                )
            raise


def task_for(requests: Sequence[CheckedRequest]) -> Task:
    """A task that sends these requests in turn; each user continues where the last one stopped."""
    next_requests: Iterator[CheckedRequest] = cycle(requests)

    def task(user: Caller) -> None:
        user.send(next(next_requests))

    return task


def tasks_for(url: str, repository: Path, say: Say) -> dict[str, Task]:
    """The task of each served model; says which models are left out, and why.

    Raises StartFailed if the server does not list its models.
    """
    tasks: dict[str, Task] = {}
    for model in served_models(url):
        try:
            if reason := not_ready(url, model):
                say(f"left out {model}: not ready ({reason})")
                continue
            tasks[model] = task_for(_requests_for(url, model, repository, say))
        except (OSError, ModelError) as error:
            say(f"left out {model}: {error}")
    return tasks


def _requests_for(url: str, model: str, repository: Path, say: Say) -> Sequence[CheckedRequest]:
    try:
        return (
            zoo.requests_for(model, repository)
            if model in zoo.MODELS
            else any_model.golden_requests(url, model, repository)
        )
    except ModelError as error:
        requests = any_model.made_up_requests(url, model)
        say(f"made up inputs for {model}, its own answers to each alone count as right: {error}")
        return requests


def _add_arguments(parser: LocustArgumentParser) -> None:
    default = str(Settings().models)
    parser.add_argument(
        "--models", default=default, help="The model repository, the source of inputs"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="Seconds to run after users start; --run-time also counts the time to find inputs",
    )
    parser.add_argument("--record", help="Write the exact time of every request to this file")


def _set_clock(**_: object) -> None:
    """Update the loop's clock, which stood still during imports: --run-time goes by it."""
    gevent.get_hub().loop.update_now()


def _begin(environment: Environment, **_: object) -> None:
    assert environment.parsed_options is not None
    assert environment.runner is not None
    found: dict[str, Task] = {}
    try:
        found = tasks_for(environment.host or "", Path(environment.parsed_options.models), _say)
    except StartFailed as error:
        _say(f"left out everything: {error}")
    Caller.tasks = [task for model, task in found.items() for _ in range(zoo.WEIGHTS.get(model, 1))]
    Caller.record = Record(found)
    seconds = environment.parsed_options.seconds
    if not Caller.tasks:
        environment.process_exit_code, seconds = _NO_MODEL, 0
    if seconds is not None:
        gevent.spawn_later(seconds, environment.runner.quit)


def _add(name: str, response_time: float, exception: Exception | None, **_: object) -> None:
    Caller.record.add(name, response_time, None if exception is None else str(exception))


def _end(**_: object) -> None:
    Caller.record.end()


def _write(environment: Environment, **_: object) -> None:
    if environment.parsed_options and (path := environment.parsed_options.record):
        Caller.record.write(Path(path))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


events.init_command_line_parser.add_listener(_add_arguments)  # type: ignore[no-untyped-call]  # Locust types no listeners
events.init.add_listener(_set_clock)  # type: ignore[no-untyped-call]
events.test_start.add_listener(_begin)  # type: ignore[no-untyped-call]
events.request.add_listener(_add)  # type: ignore[no-untyped-call]
events.test_stopping.add_listener(_end)  # type: ignore[no-untyped-call]
events.test_stop.add_listener(_write)  # type: ignore[no-untyped-call]
