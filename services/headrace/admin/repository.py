"""The model repository and the log settings over HTTP; requests become instructions to the
operator.

No text of a request becomes a path: a model's name is checked against the pattern of names here,
and the operator compares it with the names in the repository.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from headrace.edge.bodies import StrictBody, printable, read_body
from headrace.edge.exchange import Exchange, Response
from headrace.edge.management import IndexBody, changed_logging, logging_document
from headrace.errors import BadName, BadRequest
from headrace.fleet.entries import Fleet
from headrace.fleet.instructions import IndexEntry, Instruction
from headrace.telemetry.logs import LogSettings
from headrace_models.spec import Name

__all__ = ["Desk", "get_logging", "index", "load", "set_logging", "unload", "unsupported"]

_name = TypeAdapter(Name)


@dataclass(frozen=True, slots=True)
class Desk:
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
    unload_dependents: bool = False  # no model of ours has any


class _UnloadBody(StrictBody):
    parameters: _UnloadParameters = Field(default_factory=_UnloadParameters)


async def index(at: Desk, exchange: Exchange, body: bytes) -> Response:  # noqa: ARG001 - a route's signature
    """All versions of the repository and of the fleet; with `{"ready": true}` those that can answer
    now.
    """
    wanted = read_body(IndexBody, body or b"{}")
    entries = await at.give_instruction(Instruction("index"))
    return Response(
        200, orjson.dumps([asdict(e) for e in entries if e.state == "READY" or not wanted.ready])
    )


async def load(at: Desk, exchange: Exchange, body: bytes) -> Response:
    """Serve the newest version in the repository; the one before serves until that answers, and
    goes on if it fails.
    """
    name = _model(exchange)
    for parameter in read_body(_LoadBody, body or b"{}").parameters:
        if parameter == "config" or parameter.startswith("file:"):
            raise BadRequest(
                "parameters: expected no config and no files; "
                "add the version to the repository instead"
            )
        raise BadRequest(f"parameters: expected none, found {printable(parameter)}")
    await at.give_instruction(Instruction("load", name))
    return Response(200)


async def unload(at: Desk, exchange: Exchange, body: bytes) -> Response:
    """End a model once it has answered what it accepted."""
    name = _model(exchange)
    read_body(_UnloadBody, body or b"{}")
    await at.give_instruction(Instruction("unload", name))
    return Response(200)


async def unsupported(at: Desk, exchange: Exchange, body: bytes) -> Response:  # noqa: ARG001 - a route's signature
    """Paths with a repository's name in them: there is one repository, and it has none."""
    raise BadRequest("path: expected no repository name; there is only one repository")


async def get_logging(at: Desk, exchange: Exchange, body: bytes) -> Response:  # noqa: ARG001 - a route's signature
    return Response(200, logging_document(at.fleet().logging))


async def set_logging(at: Desk, exchange: Exchange, body: bytes) -> Response:  # noqa: ARG001 - a route's signature
    """Change what is listed, in every process of the platform; gives the whole settings."""
    changed = await at.change_logging(changed_logging(at.fleet().logging, body))
    return Response(200, logging_document(changed))


def _model(exchange: Exchange) -> str:
    try:
        return _name.validate_python(exchange.params["model"])
    except ValidationError:
        raise BadName("not a name that a model can have") from None
