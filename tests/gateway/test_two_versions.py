"""A model with two versions: a step of a sequence is read by the one that has its state."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from loadtests.support.model_specs import model_spec, tensor_spec

from headrace.edge.application import RoutedApplication
from headrace.edge.budget import Budget
from headrace.edge.exchange import Exchange, Response
from headrace.edge.names import ANY_NAME, Names
from headrace.edge.origin_check import OriginCheck
from headrace.gateway.access import DataPolicy
from headrace.gateway.admission import Admission
from headrace.gateway.api.context import Context
from headrace.gateway.api.endpoints import ROUTES
from headrace.gateway.offload import Offload
from headrace.gateway.routing.version import Version
from headrace.gateway.settings import GatewayLimits
from headrace.gateway.wire.infer import Codec, InferBody
from headrace.inference.request import Answer, Request, SequenceStep, Times
from headrace.inference.tensor import Tensor
from headrace.telemetry.events import GatewayEvents

INFER, GENERATE = "/v2/models/tiny/infer", "/v2/models/tiny/generate"
STATE = [{"input": "h", "output": "h_next"}]
STEP = {"parameters": {"sequence_id": 7}}


class CountingCodec(Codec):
    """Counts the bodies that it decodes in one go."""

    decoded = 0

    def decode(self, body: bytes, header_length: str | None) -> InferBody:
        self.decoded += 1
        return super().decode(body, header_length)


def version(number: str, name: str, *, has_state: bool = True) -> Version:
    """A version with one input of this `name`, beside its state."""
    state = ["h"] if has_state else []
    spec = model_spec(
        version=number,
        inputs=[tensor_spec(name), *map(tensor_spec, state)],
        outputs=[tensor_spec("y"), *(tensor_spec(f"{each}_next") for each in state)],
        state=STATE if has_state else [],
    )
    return Version(spec, (), CountingCodec(spec), "onnx")


class TwoVersions:
    """A router of versions 2 and 1, with all sequences in version 1; remembers its requests."""

    def __init__(self) -> None:
        self.old = version("1", "before")
        self.new = version("2", "after")
        self.asked: list[tuple[str, Request]] = []

    def models(self) -> Mapping[str, Mapping[str, Version]]:
        return {"tiny": {"2": self.new, "1": self.old}}

    def find(self, model: str, number: str | None) -> Version:
        versions = self.models()[model]
        return versions[number or next(iter(versions))]

    def version_of_step(self, found: Version, step: SequenceStep) -> Version:
        assert (found, step.id) == (self.new, "7")
        return self.old

    async def dispatch_anywhere(
        self, found: Version, request: Request, _: SequenceStep
    ) -> tuple[Version, Answer]:
        return found, await self.get_or_run(found, request)

    async def get_or_run(self, found: Version, request: Request) -> Answer:
        self.asked.append((found.spec.version, request))
        return Answer([Tensor("y", "FP32", (1, 1), bytes(4))], Times(0, 0, 0, 1))


class OneVersion(TwoVersions):
    """A router of version 1 alone."""

    def models(self) -> Mapping[str, Mapping[str, Version]]:
        return {"tiny": {"1": self.old}}

    def version_of_step(self, found: Version, _: SequenceStep) -> Version:
        return found


class Stateless(TwoVersions):
    """A router of two versions without state."""

    def __init__(self) -> None:
        super().__init__()
        self.old = version("1", "before", has_state=False)
        self.new = version("2", "after", has_state=False)


@pytest.fixture
def router() -> TwoVersions:
    return TwoVersions()


async def post(
    router: TwoVersions, path: str, body: bytes, headers: dict[bytes, bytes] | None = None
) -> Response:
    two: Any = router  # it stands for the router and for the cache in front of it
    admission, origin_check = Admission(GatewayLimits()), OriginCheck("http")
    with Offload() as offload:
        context = Context(
            router=two,
            cache=two,
            admission=admission,
            offload=offload,
            labels={},
            max_inflated_bytes=1 << 20,
            inflated=Budget(1 << 20),
            origin_check=origin_check,
            change_logging=two,
            openapi=b"",
        )
        policy = DataPolicy(admission, GatewayEvents(), None, {}, origin_check)
        port = RoutedApplication(ROUTES, context, policy, Names([ANY_NAME]))
        exchange = Exchange("POST", headers or {}, "peer", 1 << 20)
        port.admit(exchange, path.encode())
        return await port.answer(exchange, body)


def infer(name: str, **more: object) -> bytes:
    tensor = {"name": name, "shape": [1, 1], "datatype": "FP32", "data": [1]}
    return orjson.dumps({"inputs": [tensor], **more})


def padded(body: bytes) -> bytes:
    """The same JSON, so long that another thread reads it."""
    return body[:-1] + b" " * (80 << 10) + b"}"


def escaped(body: bytes) -> bytes:
    """The same JSON, with an escape in the names of a step's parameters."""
    return body.replace(b"sequence_id", rb"sequence\u005fid")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (INFER, infer("before", **STEP)),
        (INFER, padded(infer("before", **STEP))),
        (INFER, escaped(infer("before", **STEP))),
        (INFER, padded(escaped(infer("before", **STEP)))),
        (GENERATE, orjson.dumps({"before": 1, **STEP})),
    ],
    ids=["infer", "long", "escaped", "long-escaped", "generate"],
)
async def test_a_step_is_read_by_the_version_that_has_its_state(
    router: TwoVersions, path: str, body: bytes
) -> None:
    response = await post(router, path, body)
    assert (response.status, orjson.loads(response.body)["model_version"]) == (200, "1")
    ((number, request),) = router.asked
    assert (number, [tensor.name for tensor in request.inputs]) == ("1", ["before"])


async def test_a_binary_step_is_read_by_the_version_that_has_its_state(
    router: TwoVersions,
) -> None:
    tensor = {
        "name": "before",
        "shape": [1, 1],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 4},
    }
    header = orjson.dumps({"inputs": [tensor], **STEP})
    headers = {b"inference-header-content-length": b"%d" % len(header)}
    assert (await post(router, INFER, header + bytes(4), headers)).status == 200
    ((number, request),) = router.asked
    assert (number, bytes(request.inputs[0].data)) == ("1", bytes(4))


@pytest.mark.parametrize("versions", [OneVersion, TwoVersions])
@pytest.mark.parametrize(
    ("name", "step", "expected"),
    [
        ("before", 7, (403, "foreign_origin")),
        ("nothing", 7, (400, "bad_request")),
        ("nothing", -1, (400, "bad_request")),
    ],
    ids=["sound", "bad", "bad-step"],
)
@pytest.mark.parametrize("path", [INFER, GENERATE])
async def test_a_step_of_another_site_s_page_is_refused_once_its_body_is_read(
    path: str, name: str, step: int, expected: tuple[int, str], versions: type[TwoVersions]
) -> None:
    router = versions()
    parameters = {"sequence_id": step}
    body = (
        infer(name, parameters=parameters)
        if path == INFER
        else orjson.dumps({name: 1, "parameters": parameters})
    )
    response = await post(router, path, body, {b"origin": b"https://evil.example"})
    answer = orjson.loads(response.body)
    assert (response.status, answer["code"]) == expected
    assert (name in answer["error"]) is (name == "nothing")  # the first fault is named, if any
    assert router.asked == []


@pytest.mark.parametrize(("versions", "decoded"), [(Stateless, 1), (TwoVersions, 0)])
async def test_versions_without_state_are_decoded_as_one_is(
    versions: type[TwoVersions], decoded: int
) -> None:
    router = versions()
    assert (await post(router, INFER, infer("after"))).status == 200
    codec = router.new.codec
    assert isinstance(codec, CountingCodec)
    assert codec.decoded == decoded


@pytest.mark.parametrize(("name", "status"), [("after", 200), ("before", 400)])
async def test_what_is_no_step_is_read_by_the_newest_version(
    router: TwoVersions, name: str, status: int
) -> None:
    assert (await post(router, INFER, infer(name))).status == status
    assert [number for number, _ in router.asked] == (["2"] if status == 200 else [])


async def test_a_path_that_names_a_version_decides_it(router: TwoVersions) -> None:
    path = "/v2/models/tiny/versions/2/infer"
    assert (await post(router, path, infer("after", **STEP))).status == 200
    assert [number for number, _ in router.asked] == ["2"]
    assert (await post(router, path, infer("before", **STEP))).status == 400
