"""Users of the three families: photos (CNN), audio steps and domain names (LSTM), sentences and mails (Transformer).

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000

A model that the server does not serve when the test starts is left out, and a line says so.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from locust import FastHttpUser, TaskSet, constant_throughput, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

# Locust loads this file by its path, so the folder above has to be named.
sys.path.insert(0, str(Path(__file__).parents[1]))

from loadtests.inputs import REPOSITORY, WEIGHTS, Shot, is_served, shots_for

from headrace.config import own_authorization
from headrace_models.errors import ModelError

_REQUESTS_A_SECOND = 2.0
_NOTHING_TO_ASK = 2

Task = TaskSet | Callable[..., Any]  # as Locust has it


class Caller(FastHttpUser):
    """One caller: at most two requests a second, the next when the one before is answered."""

    wait_time = constant_throughput(_REQUESTS_A_SECOND)
    tasks: list[Task] = []  # noqa: RUF012 - Locust's own declaration; filled when the test starts

    def send(self, shot: Shot) -> None:
        """Send one request, counted under its model's name; a wrong answer is a failure."""
        with self.client.post(
            shot.path,
            data=shot.body,  # type: ignore[arg-type]  # bytes are sent as they are, Locust's annotation forgets them
            headers={**shot.headers, **own_authorization()},
            name=shot.model,
            catch_response=True,
        ) as response:
            if response.status_code == 200 and not shot.accepts(response.content or b""):
                response.failure("wrong answer")


def task_for(shots: Sequence[Shot]) -> Task:
    """A task that sends these requests one after the other, each user where the last one left off."""
    line: Iterator[Shot] = cycle(shots)

    def task(user: Caller) -> None:
        user.send(next(line))

    return task


def tasks_for(url: str, repository: Path, say: Callable[[str], None]) -> list[Task]:
    """The tasks of all models that are served, repeated by weight; says which models are left out, and why."""
    tasks: list[Task] = []
    for model, weight in WEIGHTS.items():
        try:
            if not is_served(url, model):
                say(f"left out {model}: not served at {url}")
                continue
            tasks += [task_for(shots_for(model, repository))] * weight
        except (OSError, ModelError) as error:
            say(f"left out {model}: {error}")
    return tasks


def _add_arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--models", default=str(REPOSITORY), help="The model repository that inputs are taken from")


def _choose_tasks(environment: Environment) -> None:
    assert environment.parsed_options is not None
    Caller.tasks = tasks_for(environment.host or "", Path(environment.parsed_options.models), _say)
    if not Caller.tasks:
        environment.process_exit_code = _NOTHING_TO_ASK
        if environment.runner:
            environment.runner.quit()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


events.init_command_line_parser.add_listener(_add_arguments)  # type: ignore[no-untyped-call]  # Locust types no listeners
events.test_start.add_listener(_choose_tasks)  # type: ignore[no-untyped-call]
