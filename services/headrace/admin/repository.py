"""The model repository and the log settings over HTTP, by instructions to the operator.

No text of a request becomes a path: a model's name is checked against the pattern of names here,
and the operator compares it with the names in the repository.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import orjson
from pydantic import Field

from headrace.edge.bodies import StrictBody, printable, read_body
from headrace.edge.exchange import Call, Response
from headrace.edge.triton_management import IndexBody, changed_logging, logging_document
from headrace.errors import BadName, BadRequest
from headrace.fleet.entries import Fleet
from headrace.fleet.instructions import IndexEntry, Instruction
from headrace.telemetry.logs import LogSettings
from headrace_models.names import is_model_name

__all__ = ["AdminContext", "get_logging", "index", "load", "set_logging", "unload", "unsupported"]


@dataclass(frozen=True, slots=True)
class AdminContext:
    """The context of the handlers: the current fleet, and functions that change it.

    `metrics_token` opens the metrics of all processes.
    """

    fleet: Callable[[], Fleet]
    give_instruction: Callable[[Instruction], Awaitable[tuple[IndexEntry, ...]]]
    change_logging: Callable[[LogSettings], Awaitable[LogSettings]]
    metrics_token: str = ""


class _LoadBody(StrictBody):
    parameters: dict[str, object] = Field(default_factory=dict)


class _UnloadParameters(StrictBody):
    unload_dependents: bool = False  # accepted, because no model has dependents


class _UnloadBody(StrictBody):
    parameters: _UnloadParameters = Field(default_factory=_UnloadParameters)


async def index(call: Call[AdminContext]) -> Response:
    """All versions of the repository and the fleet; with `ready` those that can answer now."""
    wanted = read_body(IndexBody, call.body or b"{}")
    entries = await call.context.give_instruction(Instruction("index"))
    return Response(
        200, orjson.dumps([asdict(e) for e in entries if e.state == "READY" or not wanted.ready])
    )


async def load(call: Call[AdminContext]) -> Response:
    """Serve the newest version in the repository.

    The version before it serves until the new one answers, and goes on if that fails.
    """
    name = _model(call)
    for parameter in read_body(_LoadBody, call.body or b"{}").parameters:
        if parameter == "config" or parameter.startswith("file:"):
            raise BadRequest(
                "parameters: expected no config and no files; "
                "add the version to the repository instead"
            )
        raise BadRequest(f"parameters: expected none, found {printable(parameter)}")
    await call.context.give_instruction(Instruction("load", name))
    return Response(200)


async def unload(call: Call[AdminContext]) -> Response:
    """End a model after it has answered the requests that it accepted."""
    name = _model(call)
    read_body(_UnloadBody, call.body or b"{}")
    await call.context.give_instruction(Instruction("unload", name))
    return Response(200)


async def unsupported(call: Call[AdminContext]) -> Response:
    """Refuse paths with a repository's name: there is one repository, without a name."""
    raise BadRequest("path: expected no repository name; there is only one repository")


async def get_logging(call: Call[AdminContext]) -> Response:
    return Response(200, logging_document(call.context.fleet().logging))


async def set_logging(call: Call[AdminContext]) -> Response:
    """Change the listed settings in all processes; the answer has all settings."""
    changed = await call.context.change_logging(
        changed_logging(call.context.fleet().logging, call.body)
    )
    return Response(200, logging_document(changed))


def _model(call: Call[AdminContext]) -> str:
    name = call.exchange.params["model"]
    if not is_model_name(name):
        raise BadName("model: expected a valid name")
    return name
