"""From a request to an answer: reads infer bodies, and runs a model within the caller's time."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from headrace.errors import BadRequest
from headrace.gateway.api.context import Call
from headrace.gateway.api.versions import names_version
from headrace.gateway.json.document import parameters_of, parse
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.infer import InferBody
from headrace.gateway.wire.sequence import step_of
from headrace.inference.request import Answer, Request, SequenceStep, Times
from headrace.inference.tensor import Tensor
from headrace_models.spec import ModelSpec

__all__ = ["read_infer", "run", "run_all", "run_infer"]

Document = Mapping[str, object]


async def run(
    call: Call, version: Version, inputs: Sequence[Tensor], outputs: Sequence[str]
) -> Answer:
    """Run a model, or take a cached answer. Without rows the answer is empty and nothing runs."""
    if not inputs[0].rows and version.spec.is_batched:
        return _empty_answer(version.spec, outputs)
    return await call.context.cache.get_or_run(version, _request(call, inputs, outputs))


async def run_all(
    call: Call, version: Version, requests: Sequence[Sequence[Tensor]], outputs: Sequence[str]
) -> list[Answer]:
    """Run several requests at once; the first error ends them all."""
    running = [asyncio.ensure_future(run(call, version, inputs, outputs)) for inputs in requests]
    try:
        return await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()


async def run_infer(call: Call, version: Version, body: InferBody) -> tuple[Version, Answer]:
    """Run an infer body by its own parameters; returns the version that answered, too.

    That is another version if the body is a step of a sequence whose state is there, and the path
    names no version.
    """
    if not body.inputs[0].rows and version.spec.is_batched:
        return version, _empty_answer(version.spec, body.outputs)
    request = _request(call, body.inputs, body.outputs, body.timeout_us / 1e6)
    request.priority = body.priority
    if body.sequence is not None:
        request.sequence = _own_step(call, body.sequence)
        if not names_version(call):
            router = call.context.router
            found, answer = await router.dispatch_anywhere(version, request, request.sequence)
            call.exchange.version = found.spec.version
            return found, answer
    return version, await call.context.cache.get_or_run(version, request)


async def read_infer(
    call: Call,
    version: Version,
    json: bytes | memoryview,
    read: Callable[[Version, Document], InferBody],
    cost: int,
) -> tuple[Version, InferBody]:
    """Parse a body once, then read it by the spec of the version that it is for.

    A step of a sequence is for the version that is known to have the state, unless the path names
    one. `cost` is about the number of bytes that are read one by one.
    """
    offload = call.context.offload
    document, step = await offload(cost, _parse, json)
    if step is not None and not names_version(call):
        step = replace(step, key_id=call.exchange.key_id)
        version = call.context.router.version_of_step(version, step)
    return version, await offload(cost, read, version, document)


def _parse(json: bytes | memoryview) -> tuple[Document, SequenceStep | None]:
    """The document, and the step that it is.

    A wrong step counts as none: the document's reader refuses it, in the order of its own checks.
    """
    document = parse(json)
    try:
        return document, step_of(parameters_of(document, "parameters"))
    except BadRequest:
        return document, None


def _own_step(call: Call, step: SequenceStep) -> SequenceStep:
    """The step with its caller's key, as sequences belong to keys.

    Raises ForeignOrigin for a page of another site.
    """
    call.context.origin_check.check_step(call.exchange)
    return replace(step, key_id=call.exchange.key_id)


def _request(
    call: Call, inputs: Sequence[Tensor], outputs: Sequence[str], timeout_s: float = 0.0
) -> Request:
    exchange = call.exchange
    default_s = call.context.admission.limits.default_timeout_s
    deadline_s = exchange.received_s + (timeout_s or exchange.timeout_s(default_s))
    return Request(
        inputs, outputs, deadline_s, request_id=exchange.request_id, key_id=exchange.key_id
    )


def _empty_answer(spec: ModelSpec, outputs: Sequence[str]) -> Answer:
    shapes = {o.name: (o.datatype, (0, *(max(axis, 0) for axis in o.shape))) for o in spec.outputs}
    return Answer(
        [Tensor(name, *shapes[name], b"") for name in outputs or spec.output_names],
        Times(0.0, 0.0, 0.0, 0),
    )
