"""The data port's routes: one short function each, and the table that finds them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import orjson

from headrace import __version__
from headrace.edge.exchange import Exchange, Response
from headrace.errors import BadRequest, HeadraceError, NotReady, UnknownRoute, WrongMethod
from headrace.gateway import doors
from headrace.gateway.admission import Admission
from headrace.gateway.routing import Router, Version
from headrace.tensor import Answer, Request, Tensor
from headrace_models.repository import version_order
from headrace_models.spec import InputSpec, OutputSpec

__all__ = ["Doors", "Found", "find_route"]

_PLATFORMS = {"onnx": "onnxruntime_onnx", "torch": "pytorch_libtorch"}
EXTENSIONS = ("binary_tensor_data",)


@dataclass(frozen=True, slots=True)
class Doors:
    """What routes work with."""

    router: Router
    admission: Admission


def _json(document: object, *headers: tuple[bytes, bytes]) -> Response:
    return Response(200, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), headers=headers)


async def server_metadata(_: Doors, __: Exchange) -> Response:
    return _json({"name": "headrace", "version": __version__, "extensions": EXTENSIONS})


async def live(_: Doors, __: Exchange) -> Response:
    return _json({"live": True})


async def ready(at: Doors, _: Exchange) -> Response:
    if at.admission.is_draining or not at.router.is_ready:
        raise NotReady("not every model can answer now", retry_after_s=1)
    return _json({"ready": True})


async def model_ready(at: Doors, exchange: Exchange) -> Response:
    version = _version(at, exchange)
    if not version.is_ready:
        raise NotReady(f'model "{version.spec.name}" is not ready', retry_after_s=1)
    return _json({"name": version.spec.name, "ready": True})


async def model_metadata(at: Doors, exchange: Exchange) -> Response:
    version = _version(at, exchange)
    spec = version.spec
    names = sorted(at.router.models()[spec.name], key=version_order)
    document = {
        "name": spec.name,
        "versions": names,
        "platform": _PLATFORMS[version.backend],
        "inputs": [_tensor_metadata(i) for i in spec.inputs],
        "outputs": [_tensor_metadata(o) for o in spec.outputs],
    }
    return _json(document)


def _tensor_metadata(tensor: InputSpec | OutputSpec) -> dict[str, object]:
    """A tensor's metadata; its shape has the row axis, which the spec leaves out."""
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [-1, *tensor.shape]}


async def models(at: Doors, _: Exchange) -> Response:
    """Both shapes that clients know: OpenAI's `data` and KServe's `models`."""
    names = sorted(at.router.models())
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "headrace"} for name in names]
    return _json({"object": "list", "data": data, "models": names})


async def infer(at: Doors, exchange: Exchange) -> Response:
    version = _version(at, exchange)
    body = await exchange.body()
    asked = version.codec.decode(body, exchange.header(b"inference-header-content-length"))
    answer = await _ask(at, exchange, version, asked.inputs, asked.outputs, asked.timeout_us / 1e6, asked.priority)
    encoded, header_length = version.codec.encode(answer, asked)
    headers = [_server_timing(answer)]
    if header_length:
        headers.append((b"inference-header-content-length", b"%d" % header_length))
        return Response(200, encoded, b"application/octet-stream", headers)
    return Response(200, encoded, headers=headers)


async def classify(at: Doors, exchange: Exchange) -> Response:
    version = _version(at, exchange)
    output, raw = version.spec.classes, version.spec.preprocess
    if output is None or raw is None:
        raise BadRequest("the model has no labelled classes; use /v2/models/{model}/infer")
    asked = doors.classify_body(exchange, await exchange.body(), raw)
    items = [asked] if isinstance(asked, bytes) else asked.items()
    top_k = 5 if isinstance(asked, bytes) else asked.top_k
    answer = await _ask(at, exchange, version, [doors.raw_tensor(raw, items)], [output.name])
    results = doors.classify_results(answer, output, version.labels, top_k)
    document = {"model": version.spec.name, "version": version.spec.version, "results": results}
    return _json(document, _server_timing(answer))


async def embed(at: Doors, exchange: Exchange) -> Response:
    asked = doors.read_json(doors.EmbeddingsBody, await exchange.body())
    version = _find(at, exchange, asked.model, None)
    spec = version.spec
    if spec.task != "embed" or spec.preprocess is None:
        raise BadRequest("model: expected a model that embeds text, found one that does not")
    output = spec.outputs[0]
    if asked.dimensions not in (None, output.shape[0]):
        raise BadRequest(f"dimensions: expected {output.shape[0]}, found {asked.dimensions}")
    texts = doors.raw_tensor(spec.preprocess, [text.encode() for text in asked.texts])
    answer = await _ask(at, exchange, version, [texts], [output.name])
    return _json(doors.embeddings(answer, asked, spec), _server_timing(answer))


def _version(at: Doors, exchange: Exchange) -> Version:
    return _find(at, exchange, exchange.params["model"], exchange.params.get("version"))


def _find(at: Doors, exchange: Exchange, model: str, version: str | None) -> Version:
    found = at.router.find(model, version)
    exchange.model, exchange.version = found.spec.name, found.spec.version
    return found


async def _ask(
    at: Doors,
    exchange: Exchange,
    version: Version,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
    timeout_s: float = 0.0,
    priority: int = 0,
) -> Answer:
    """Send tensors to a replica, inside the caller's time."""
    allowed_s = timeout_s or exchange.timeout_s(at.admission.limits.default_timeout_s)
    request = Request(inputs, outputs, exchange.began_s + allowed_s, exchange.request_id, priority)
    return await at.router.ask(version, request)


def _server_timing(answer: Answer) -> tuple[bytes, bytes]:
    times = answer.times
    text = (
        f"queue;dur={times.queue_s * 1e3:.3f}, preprocess;dur={times.preprocess_s * 1e3:.3f}, "
        f"compute;dur={times.compute_s * 1e3:.3f}, batch;desc={times.batch_rows}"
    )
    return b"server-timing", text.encode()


Handler = Callable[[Doors, Exchange], Awaitable[Response]]


class Found(NamedTuple):
    """A route for a path: its handler, the door that labels its metrics, and the path's parameters."""

    handler: Handler
    door: str
    params: Mapping[str, str]


_ROUTES: list[tuple[str, str, str, Handler]] = [
    ("POST", "/v2/models/{model}/infer", "infer", infer),
    ("POST", "/v2/models/{model}/versions/{version}/infer", "infer", infer),
    ("POST", "/v1/models/{model}:classify", "classify", classify),
    ("POST", "/v1/embeddings", "embeddings", embed),
    ("GET", "/v2", "metadata", server_metadata),
    ("GET", "/v2/health/live", "health", live),
    ("GET", "/v2/health/ready", "health", ready),
    ("GET", "/v2/models/{model}", "metadata", model_metadata),
    ("GET", "/v2/models/{model}/versions/{version}", "metadata", model_metadata),
    ("GET", "/v2/models/{model}/ready", "metadata", model_ready),
    ("GET", "/v2/models/{model}/versions/{version}/ready", "metadata", model_ready),
    ("GET", "/v1/models", "metadata", models),
]


@lru_cache(maxsize=1024)
def find_route(method: str, path: str) -> Found | HeadraceError:
    """The route of a path, or the error that answers it; an error is given, not raised, so that it is cached too."""
    steps = path.removesuffix("/").split("/")
    allowed: list[str] = []
    for verb, template, door, handler in _ROUTES:
        params = _match(template.split("/"), steps)
        if params is None:
            continue
        if verb == method:
            return Found(handler, door, params)
        allowed.append(verb)
    if allowed:
        return WrongMethod(f"expected {' or '.join(allowed)} for this path", allowed=", ".join(allowed))
    return UnknownRoute("no such path")


def _match(template: list[str], steps: list[str]) -> dict[str, str] | None:
    if len(template) != len(steps):
        return None
    params = {}
    for expected, found in zip(template, steps, strict=True):
        name, brace, suffix = expected.removeprefix("{").partition("}")
        if not brace:
            if expected != found:
                return None
        elif found.endswith(suffix) and len(found) > len(suffix):
            params[name] = found.removesuffix(suffix)
        else:
            return None
    return params
