"""What every route that works with a model shares: the version that a path names, and the way to a replica."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson
from msgspec.structs import replace

from headrace.edge.budget import Budget
from headrace.edge.changes import Changes
from headrace.edge.exchange import Exchange, Response
from headrace.errors import BadName, BadVersion, UnknownModel, UnknownVersion
from headrace.gateway.admission import Admission
from headrace.gateway.offload import Offload
from headrace.gateway.routing.response_cache import ResponseCache
from headrace.gateway.routing.router import Router, Version
from headrace.gateway.wire.infer import InferBody
from headrace.inference.request import Answer, Request, SequenceStep, Times
from headrace.inference.tensor import Tensor
from headrace.keys import Key
from headrace.telemetry.logs import LogSettings
from headrace_models.names import is_model_name, is_version_name
from headrace_models.spec import ModelSpec

__all__ = [
    "Context",
    "answer_headers",
    "ask",
    "ask_all",
    "ask_as",
    "find",
    "json_response",
    "may_use",
    "truncated",
    "version_for",
    "version_of",
    "visible",
]


@dataclass(frozen=True, slots=True)
class Context:
    """What routes work with. `labels` are names for versions: model -> label -> version.

    `inflated` counts the bytes of bodies that came compressed, which the edge knows only as they came. `changes` are
    whose steps of sequences are taken.
    """

    router: Router
    cache: ResponseCache
    admission: Admission
    offload: Offload
    labels: Mapping[str, Mapping[str, str]]
    max_inflated_bytes: int
    inflated: Budget
    changes: Changes
    change_logging: Callable[[LogSettings], Awaitable[LogSettings]]


def json_response(document: object, *headers: tuple[bytes, bytes]) -> Response:
    return Response(200, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), headers=headers)


def version_of(at: Context, exchange: Exchange) -> Version:
    """The version that the path names, or the one that answers when it names none."""
    params = exchange.params
    version = params.get("version")
    if label := params.get("label"):
        version = at.labels.get(params["model"], {}).get(label)
        if version is None:
            find(at, exchange, params["model"], None)
            raise UnknownVersion("the model has no version with this label")
    return find(at, exchange, params["model"], version)


def names_version(exchange: Exchange) -> bool:
    """Whether the path says which version is to answer."""
    return "version" in exchange.params or "label" in exchange.params


def find(at: Context, exchange: Exchange, model: str, version: str | None) -> Version:
    """A version by name. Raises BadName or BadVersion for what can name none, and what the router says.

    A model that the caller's key may not use is as unknown as one that is not there.
    """
    if not is_model_name(model):
        raise BadName(
            "model: expected a letter or digit, then up to 127 letters, digits, dots, dashes or underscores"
        )
    if version is not None and not is_version_name(version):
        raise BadVersion(
            "version: expected a letter or digit, then up to 31 letters, digits, dots, dashes or underscores"
        )
    if not may_use(exchange, model):
        raise UnknownModel("no such model")
    found = at.router.find(model, version)
    exchange.model, exchange.version = found.spec.name, found.spec.version
    return found


def visible(at: Context, exchange: Exchange) -> list[str]:
    """The names of the models that the caller may use."""
    return sorted(name for name in at.router.models() if may_use(exchange, name))


def may_use(exchange: Exchange, model: str) -> bool:
    key = cast(Key | None, exchange.key)
    return key is None or key.may_use(model)


async def ask(
    at: Context,
    exchange: Exchange,
    version: Version,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
) -> Answer:
    """Send tensors to a replica, inside the caller's time, or find the answer kept. No rows in, no rows out."""
    if not inputs[0].rows and version.spec.is_batched:
        return _empty_answer(version.spec, outputs)
    return await at.cache.get_or_run(version, _request(at, exchange, inputs, outputs))


def _request(
    at: Context,
    exchange: Exchange,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
    timeout_s: float = 0.0,
) -> Request:
    allowed_s = timeout_s or exchange.timeout_s(at.admission.limits.default_timeout_s)
    deadline_s = exchange.received_s + allowed_s
    return Request(
        inputs, outputs, deadline_s, request_id=exchange.request_id, key_id=_owner(exchange)
    )


def _owner(exchange: Exchange) -> str:
    """The id of the caller's key; empty where none is needed."""
    key = cast(Key | None, exchange.key)
    return key.id if key is not None else ""


async def ask_all(
    at: Context,
    exchange: Exchange,
    version: Version,
    requests: Sequence[Sequence[Tensor]],
    outputs: Sequence[str],
) -> list[Answer]:
    """The answers to several requests at once; the first error ends them all."""
    asked = [
        asyncio.ensure_future(ask(at, exchange, version, inputs, outputs)) for inputs in requests
    ]
    try:
        return await asyncio.gather(*asked)
    finally:
        for one in asked:
            one.cancel()


async def ask_as(
    at: Context, exchange: Exchange, version: Version, asked: InferBody
) -> tuple[Version, Answer]:
    """What an infer body asks for, its parameters obeyed, and the version that answered: another one if that has the
    sequence, of which the body is a step, and the path names none.
    """
    if not asked.inputs[0].rows and version.spec.is_batched:
        return version, _empty_answer(version.spec, asked.outputs)
    request = _request(at, exchange, asked.inputs, asked.outputs, asked.timeout_us / 1e6)
    request.priority, request.sequence = asked.priority, own_step(at, exchange, asked)
    if request.sequence is None or names_version(exchange):
        return version, await at.cache.get_or_run(version, request)
    found, answer = await at.router.dispatch_anywhere(version, request, request.sequence)
    exchange.version = found.spec.version
    return found, answer


def own_step(at: Context, exchange: Exchange, asked: InferBody) -> SequenceStep | None:
    """A sequence is its caller's own: the key is part of it. Raises ForeignOrigin for another site's page."""
    if asked.sequence is None:
        return None
    at.changes.check_step(exchange)
    return replace(asked.sequence, key_id=_owner(exchange))


def version_for(at: Context, exchange: Exchange, version: Version, asked: InferBody) -> Version:
    """By whose spec a body is to be read: the version that the path names, else the one that has the sequence."""
    step = own_step(at, exchange, asked)
    return (
        version
        if step is None or names_version(exchange)
        else at.router.version_of_step(version, step)
    )


def _empty_answer(spec: ModelSpec, outputs: Sequence[str]) -> Answer:
    shapes = {o.name: (o.datatype, (0, *(max(axis, 0) for axis in o.shape))) for o in spec.outputs}
    return Answer(
        [Tensor(name, *shapes[name], b"") for name in outputs or spec.output_names],
        Times(0.0, 0.0, 0.0, 0),
    )


def truncated(answer: Answer) -> dict[str, object]:
    """The member of a JSON answer that tells which texts were cut; none if all were read to their end."""
    return {"truncated": answer.truncated} if answer.truncated else {}


def answer_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Where the time went, and of how many texts the end was cut off, if of any."""
    timing = _server_timing(answer)
    return (
        [timing, (b"x-truncated", b"%d" % len(answer.truncated))] if answer.truncated else [timing]
    )


def _server_timing(answer: Answer) -> tuple[bytes, bytes]:
    times = answer.times
    text = (
        f"queue;dur={times.queue_s * 1e3:.3f}, preprocess;dur={times.preprocess_s * 1e3:.3f}, "
        f"compute;dur={times.compute_s * 1e3:.3f}, batch;desc={times.batch_rows}, padding;desc={times.padding:.2f}"
    )
    return b"server-timing", (f"cache;desc=hit, {text}" if answer.is_cached else text).encode()
