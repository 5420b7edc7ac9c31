"""The schemas of bodies and answers: pydantic makes those of bodies, msgspec those of answers."""

from collections.abc import Sequence
from types import UnionType
from typing import Any, get_args

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from headrace.gateway.api.endpoint import Endpoint, Schema

__all__ = ["Schemas"]

_TEMPLATE = "#/components/schemas/"


class Schemas:
    """The schemas of all endpoints; `components` are those with a name."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        bodies = {e.body for e in endpoints if e.body is not None}
        by_body, found = models_json_schema(
            [(body, "validation") for body in sorted(bodies, key=lambda body: body.__name__)],
            ref_template=_TEMPLATE + "{model}",
        )
        self._of_bodies = {body: schema for (body, _), schema in by_body.items()}
        answers = [t for e in endpoints if e.answer is not None for t in _alternatives(e.answer)]
        schemas, components = msgspec.json.schema_components(
            answers, ref_template=_TEMPLATE + "{name}"
        )
        self._of_answers = list(zip(answers, schemas, strict=True))
        self.components: dict[str, Schema] = found.get("$defs", {})
        for name, schema in components.items():
            assert name not in self.components, f"{name} is a body and an answer"
            self.components[name] = _as_written(schema)

    def of_body(self, body: type[BaseModel]) -> Schema:
        return self._of_bodies[body]

    def of_answer(self, answer: object) -> Schema:
        found = [
            next(schema for known, schema in self._of_answers if known == alternative)
            for alternative in _alternatives(answer)
        ]
        return found[0] if len(found) == 1 else {"oneOf": found}


def _alternatives(answer: object) -> Sequence[Any]:
    return get_args(answer) if isinstance(answer, UnionType) else [answer]


def _as_written(schema: Schema) -> Schema:
    """The schema of a Struct as it is written: a field that has its default is there, too."""
    properties: Any = schema.get("properties", {})
    with_default = [name for name, of_one in properties.items() if "default" in of_one]
    if not with_default:
        return schema
    return {**schema, "required": [*schema.get("required", ()), *with_default]}  # type: ignore[misc]
