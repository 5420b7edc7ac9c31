"""Endpoints as rows: all that the port, the metrics and the OpenAPI document need of one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from headrace.edge.exchange import ErrorShape, Handler, Route
from headrace.gateway.api.context import Context
from headrace_models.spec import ModelSpec

__all__ = [
    "BINARY",
    "JSON_TYPE",
    "MANY_TYPES",
    "OCTETS",
    "SMALL_BODY_BYTES",
    "TRUNCATED_HEADER",
    "V1_MODEL",
    "V2_MODEL",
    "Api",
    "Endpoint",
    "Schema",
    "every_model",
    "parameter",
    "with_version",
]

Schema = dict[str, object]

JSON_TYPE, OCTETS = "application/json", "application/octet-stream"
# "" is a body without a Content-Type, as tritonclient's; the form type is what `curl -d` sends by
# default.
JSON_TYPES = ("", JSON_TYPE, "application/x-www-form-urlencoded")
# tritonclient's asyncio client calls whatever it sends octets.
MANY_TYPES = (*JSON_TYPES, OCTETS)
# A body of a few fields is read on the event loop: the most that it may take of that is a few ms.
SMALL_BODY_BYTES = 8 << 10

V2_MODEL, V1_MODEL = "/v2/models/{model}", "/v1/models/{model}"
BINARY: Schema = {"schema": {"type": "string", "format": "binary"}}
TRUNCATED_HEADER: Mapping[str, Schema] = {
    "X-Truncated": {
        "description": "the number of texts that were too long for the model, and so were cut",
        "schema": {"type": "integer", "minimum": 1},
    }
}


def every_model(_: ModelSpec) -> bool:
    return True


def no_model(_: ModelSpec) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A family of endpoints: the label `api` of metrics, and a tag of the document.

    `serves` tells whether a model answers here: if so, metrics show its counts from 0 on.
    """

    name: str
    about: str
    is_always_answered: bool = False  # however full the gateway is
    serves: Callable[[ModelSpec], bool] = no_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method and its paths. The document takes its texts from the handler's docstring.

    `body` and `answer` document JSON bodies and answers; the handler itself reads and writes them.
    `body_media` and `answer_media` are other media types, as OpenAPI has them; `examples` are
    bodies by title.
    """

    method: str
    paths: tuple[str, ...]
    handler: Handler[Context]
    api: Api
    # The request.
    reads: tuple[str, ...] = JSON_TYPES
    body: type[BaseModel] | None = None
    body_media: Mapping[str, Schema] = field(default_factory=dict)
    body_required: bool = True
    examples: Mapping[str, object] = field(default_factory=dict)
    parameters: tuple[Schema, ...] = ()
    path_parameters: Mapping[str, Schema] = field(default_factory=dict)
    may_be_compressed: bool = False
    max_body_bytes: int | None = None
    # The answer.
    answer: Any = None
    answer_media: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Schema] = field(default_factory=dict)
    errors: ErrorShape = "own"
    # What it does.
    runs_model: bool = False
    takes_sequences: bool = False
    changes_server: bool = False
    is_public: bool = False

    def routes(self) -> Iterator[Route[Context]]:
        for path in self.paths:
            yield Route(
                method=self.method,
                template=path,
                api=self.api.name,
                handler=self.handler,
                reads=self.reads,
                may_be_compressed=self.may_be_compressed,
                max_body_bytes=self.max_body_bytes,
                is_public=self.is_public,
                is_always_answered=self.api.is_always_answered,
                changes_server=self.changes_server,
                errors=self.errors,
            )

    def names_model(self, path: str) -> bool:
        """Tell whether a request names a model, in its path or in its body."""
        return self.runs_model or "{model}" in path


def with_version(model: str, suffix: str = "") -> tuple[str, str]:
    """The paths of a model without and with a version."""
    return f"{model}{suffix}", f"{model}/versions/{{version}}{suffix}"


def parameter(
    name: str, where: str, schema: Schema, description: str = "", **more: object
) -> Schema:
    """A parameter of the document; `where` is path, query or header."""
    texts = {"description": description} if description else {}
    return {"name": name, "in": where, **texts, "schema": schema, **more}
