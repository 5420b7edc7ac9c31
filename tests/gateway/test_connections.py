"""Connections: requests in one write, bodies in pieces, callers who leave; each is counted."""

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from loadtests.support.gated_backend import GatedBackend
from loadtests.support.in_process_platform import (
    EDGE,
    InProcessPlatform,
    gated_platform,
    in_process_platform,
)
from prometheus_client.parser import text_string_to_metric_families

from headrace.gateway.api.endpoints import ROUTES

INFER = "/v2/models/doubler/infer"
BODY = orjson.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture
def caller(served: InProcessPlatform) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as caller:
        yield caller


def post(body: bytes = BODY, *headers: str) -> bytes:
    lines = [f"POST {INFER} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class _Held:
    """Lets http.client read several answers from one stream, which it closes after each."""

    def __init__(self, caller: socket.socket) -> None:
        self._stream = caller.makefile("rb")

    def makefile(self, *_: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        pass


def answers(caller: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """The next answers on a connection."""
    held: Any = _Held(caller)
    found = []
    for _ in range(count):
        answer = http.client.HTTPResponse(held)
        answer.begin()
        found.append((answer.status, answer.read()))
    return found


def test_requests_of_one_write_are_answered_in_order(caller: socket.socket) -> None:
    caller.sendall(post() + get("/v2/health/live") + get("/nowhere") + post())
    found = answers(caller, 4)
    assert [status for status, _ in found] == [200, 200, 404, 200]
    assert orjson.loads(found[1][1]) == {"live": True}
    assert orjson.loads(found[3][1])["outputs"][0]["data"] == [2, 4, 6, 8]


def test_a_body_may_come_in_pieces(caller: socket.socket) -> None:
    request = post()
    for byte in range(0, len(request), 7):
        caller.sendall(request[byte : byte + 7])
    assert answers(caller, 1)[0][0] == 200


def test_a_caller_who_expects_100_gets_it(caller: socket.socket) -> None:
    head, _, body = post(BODY, "Expect: 100-continue").partition(b"\r\n\r\n")
    caller.sendall(head + b"\r\n\r\n")
    assert caller.recv(100).startswith(b"HTTP/1.1 100 ")
    caller.sendall(body)
    assert answers(caller, 1)[0][0] == 200


def test_a_refused_body_ends_its_connection_and_is_never_taken_for_a_request(
    caller: socket.socket,
) -> None:
    length = EDGE.max_body_bytes + 1
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    caller.sendall(head.encode() + get("/v2/health/live"))
    received = b""
    try:
        while more := caller.recv(1 << 16):
            received += more
    except ConnectionError:
        pass
    assert received.startswith(b"HTTP/1.1 413")
    assert received.count(b"HTTP/1.1 ") == 1


def test_an_old_callers_connection_is_closed_after_its_answer(caller: socket.socket) -> None:
    caller.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    received = b""
    while more := caller.recv(1 << 16):
        received += more
    assert received.endswith(b'{"live":true}')


@pytest.mark.parametrize("path", sorted({r.template for r in ROUTES if r.method == "GET"}))
def test_head_is_get_without_its_body(served: InProcessPlatform, path: str) -> None:
    path = path.format(
        model="doubler", version="1", label="stable", region="mine", asset="swagger-ui.css"
    )
    status, _, expected = served.ask("GET", path)
    found_status, body, found = served.ask("HEAD", path)
    assert (found_status, body) == (status, b"")
    assert found | {"x-request-id": ""} == expected | {"x-request-id": ""}


@pytest.mark.parametrize(
    ("path", "status"), [("/nowhere", 404), ("/v2/models/nobody", 404), (INFER, 405)]
)
def test_a_refused_head_has_no_body_either(caller: socket.socket, path: str, status: int) -> None:
    caller.sendall(
        f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + get("/v2/health/live")
    )
    received = b""
    while b'{"live":true}' not in received:
        more = caller.recv(1 << 16)
        assert more
        received += more
    first, _, second = received.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d" % status)
    assert second.startswith(b"HTTP/1.1 200")


def test_a_wrong_verb_is_told_the_right_one(served: InProcessPlatform) -> None:
    assert served.ask("GET", INFER)[2]["allow"] == "POST"
    assert served.ask("POST", "/v2")[2]["allow"] == "GET, HEAD"
    assert served.ask("DELETE", "/v2/logging")[2]["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("field", ["name", "datatype"])
def test_a_request_that_cannot_be_quoted_is_answered_all_the_same(
    caller: socket.socket, field: str
) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]} | {field: "?"}
    caller.sendall(post(orjson.dumps({"inputs": [tensor]}).replace(b"?", rb"\ud800")))
    assert answers(caller, 1)[0][0] == 400


@pytest.mark.parametrize(
    "body", [rb'{"input":"\ud800","model":"doubler"}', rb'{"input":"x","model":"\ud800"}']
)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/models/doubler:classify"])
def test_the_other_doors_refuse_half_a_character_too(
    served: InProcessPlatform, path: str, body: bytes
) -> None:
    assert 400 <= served.ask("POST", path, body)[0] < 500


def test_the_embeddings_door_speaks_openais_errors_with_a_slash_behind_it(
    served: InProcessPlatform,
) -> None:
    _, answer, _ = served.ask("POST", "/v1/embeddings/", b"{}")
    assert isinstance(answer["error"], dict)


def test_nobody_lengthens_the_metrics_page_by_what_they_send(served: InProcessPlatform) -> None:
    for n in range(20):
        served.ask("GET", f"/v2/models/stranger-{n}")
        served.ask("POST", f"/v2/models/doubler/versions/stranger-{n}/infer", b"{}")
        served.ask(f"STRANGER{n}", "/v2")
        served.ask("GET", f"/stranger-{n}")
    assert "stranger" not in metrics(served).lower()


def metrics(served: InProcessPlatform) -> str:
    connection = http.client.HTTPConnection(served.gateway.metrics, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def counted(served: InProcessPlatform) -> dict[tuple[str, str, str, str], float]:
    """Requests so far by model, version, endpoint and status."""
    return {
        (s.labels["model"], s.labels["version"], s.labels["api"], s.labels["code"]): s.value
        for family in text_string_to_metric_families(metrics(served))
        for s in family.samples
        if s.name == "headrace_requests_total" and s.value
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "labels"),
    [
        ("POST", INFER, BODY, ("doubler", "1", "infer", "200")),
        ("POST", INFER, b"{}", ("doubler", "1", "infer", "400")),
        ("POST", "/v2/models/nobody/infer", BODY, ("", "", "infer", "404")),
        ("GET", "/nowhere", b"", ("", "", "none", "404")),
        ("GET", INFER, b"", ("", "", "none", "405")),
        ("GET", "/v2/models/doubler", b"", ("doubler", "1", "metadata", "200")),
        ("GET", "/v2/health/live", b"", ("", "", "health", "200")),
        ("POST", "/v1/embeddings", b"{}", ("", "", "embeddings", "400")),
    ],
)
def test_each_request_is_counted_once_with_its_labels(
    served: InProcessPlatform,
    method: str,
    path: str,
    body: bytes,
    labels: tuple[str, str, str, str],
) -> None:
    before = counted(served)
    served.ask(method, path, body)
    after = counted(served)
    assert {
        key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key)
    } == {labels: 1}


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_tritons_client_gets_its_answer(served: InProcessPlatform, *, is_binary: bool) -> None:
    # Slow to import.
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    asked = InferInput("x", [2, 4], "FP32")
    asked.set_data_from_numpy(rows, binary_data=is_binary)
    wanted = [InferRequestedOutput("y", binary_data=is_binary)]
    with InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        assert client.is_server_ready()
        answer = client.infer("doubler", [asked], outputs=wanted, request_id="mine")
    assert answer.get_response()["id"] == "mine"
    np.testing.assert_array_equal(answer.as_numpy("y"), rows * 2)


async def test_tritons_asyncio_client_gets_its_answer_and_its_error(
    served: InProcessPlatform,
) -> None:
    # Slow to import.
    from tritonclient.http.aio import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    rows = np.ones((2, 4), np.float32)
    asked = InferInput("x", [2, 4], "FP32").set_data_from_numpy(rows)
    async with InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        np.testing.assert_array_equal(
            (await client.infer("doubler", [asked])).as_numpy("y"), rows * 2
        )
        with pytest.raises(InferenceServerException, match="no such model"):
            await client.infer("nobody", [asked])


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[InProcessPlatform, GatedBackend]]:
    with gated_platform(tmp_path) as both:
        yield both


def ask_for(served: InProcessPlatform, number: float) -> tuple[int, Any, dict[str, str]]:
    return served.infer(np.full((1, 4), number, np.float32))


def test_a_caller_who_leaves_is_counted_and_its_rows_never_run(
    gated: tuple[InProcessPlatform, GatedBackend],
) -> None:
    served, model = gated
    first = threading.Thread(target=ask_for, args=(served, 1))
    first.start()
    assert model.entered.wait(5)
    left = BODY.replace(b"[1.0,2.0,3.0,4.0]", b"[7,7,7,7]").replace(b"[1,2,3,4]", b"[7,7,7,7]")
    with socket.create_connection(("127.0.0.1", served.port)) as caller:
        caller.sendall(post(left))
        while "headrace_requests_in_flight 2.0" not in metrics(served):
            pass
    while counted(served).get(("doubler", "1", "infer", "499")) != 1:
        pass
    model.open()
    first.join()
    assert ask_for(served, 3)[0] == 200
    assert 7.0 not in model.rows
    assert "headrace_requests_in_flight 0.0" in metrics(served)


def test_a_stopped_gateway_answers_what_is_in_flight(
    gated: tuple[InProcessPlatform, GatedBackend],
) -> None:
    served, model = gated
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.append(ask_for(served, 1)[0]))
    asking.start()
    assert model.entered.wait(5)
    served.gateway_thread.stop()
    model.open()
    asking.join()
    assert found == [200]


@pytest.mark.parametrize("rows", [1, 300], ids=["one batch", "several batches"])
def test_a_stopped_replica_answers_what_it_accepted(
    gated: tuple[InProcessPlatform, GatedBackend], rows: int
) -> None:
    served, model = gated
    found: list[int] = []
    asking = threading.Thread(
        target=lambda: found.append(served.infer(np.ones((rows, 4), np.float32))[0])
    )
    asking.start()
    assert model.entered.wait(5)
    served.replica_thread.stop()
    while served.ask("GET", "/v2/health/ready")[0] == 200:
        pass
    model.open()
    asking.join()
    assert found == [200]


@pytest.mark.slow("waits for seconds on the real clock")
def test_a_lost_replica_is_503_and_may_be_repeated(
    gated: tuple[InProcessPlatform, GatedBackend],
) -> None:
    served, model = gated
    model.open()
    served.replica_thread.stop()
    assert served.replica_thread.wait(10)
    while served.ask("GET", "/v2/health/ready")[0] == 200:
        pass
    for path in (INFER, "/v2/models/doubler/versions/1/infer"):
        status, answer, headers = served.ask("POST", path, BODY)
        assert (status, answer["code"], headers["retry-after"]) == (503, "model_not_ready", "1")
