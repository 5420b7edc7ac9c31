"""The gateway over HTTP, before a real replica: what it answers, and in which shape."""

import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from loadtests.support.gated_backend import GateLoader
from loadtests.support.in_process_platform import EDGE, InProcessPlatform, in_process_platform

from headrace.edge.problems import STATUS, problem
from headrace.errors import KINDS, HeadraceError

INFER = "/v2/models/doubler/infer"
BODY = orjson.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("plain")) as running:
        yield running


def test_each_row_comes_back_doubled_and_in_order(served: InProcessPlatform) -> None:
    # More than a batch: split and put together again.
    rows = np.arange(200 * 4, dtype=np.float32).reshape(200, 4)
    status, answer, headers = served.infer(rows, id="mine")
    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("doubler", "1", "mine")
    assert answer["outputs"][0]["shape"] == [200, 4]
    np.testing.assert_array_equal(np.reshape(answer["outputs"][0]["data"], (200, 4)), rows * 2)
    assert "batch;desc=" in headers["server-timing"]


def test_a_binary_answer_says_where_its_json_ends(served: InProcessPlatform) -> None:
    rows = np.ones((1, 4), np.float32)
    _, body, headers = served.infer(rows, parameters={"binary_data_output": True})
    assert headers["content-type"] == "application/octet-stream"
    length = int(headers["inference-header-content-length"])
    assert orjson.loads(body[:length])["outputs"][0]["parameters"]["binary_data_size"] == 16
    np.testing.assert_array_equal(np.frombuffer(body[length:], "<f4"), [2, 2, 2, 2])


def test_many_callers_at_once_get_their_own_answers(served: InProcessPlatform) -> None:
    wrong: list[int] = []

    def caller(number: int) -> None:
        for step in range(20):
            rows = np.full((1 + step % 3, 4), number * 100 + step, np.float32)
            answer = served.infer(rows)[1]
            if answer["outputs"][0]["data"] != (rows * 2).ravel().tolist():
                wrong.append(number)

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v2/models/nobody", 404, "model_not_found"),
        ("GET", "/v2/models/nobody/ready", 404, "model_not_found"),
        ("POST", "/v2/models/nobody/infer", 404, "model_not_found"),
        ("GET", "/v2/models/doubler/versions/9", 404, "version_not_found"),
        ("GET", INFER, 405, "method_not_allowed"),
        ("DELETE", "/v2", 405, "method_not_allowed"),
        ("POST", INFER, 400, "bad_json"),
        ("POST", "/v1/models/doubler:classify", 400, "bad_request"),
    ],
)
def test_an_error_is_one_sentence_with_its_code_and_the_requests_id(
    served: InProcessPlatform, method: str, path: str, status: int, code: str
) -> None:
    found, answer, headers = served.ask(method, path)
    assert found == status
    assert answer["code"] == code
    assert isinstance(answer["error"], str)
    assert answer["request_id"] == headers["x-request-id"]


def test_errors_of_embeddings_have_openais_shape(served: InProcessPlatform) -> None:
    status, answer, _ = served.ask(
        "POST", "/v1/embeddings", orjson.dumps({"model": "doubler", "input": "x"})
    )
    assert status == 400
    assert answer["error"]["message"].startswith("model: expected a model that embeds text")


def test_metadata_has_the_row_axis(served: InProcessPlatform) -> None:
    _, answer, _ = served.ask("GET", "/v2/models/doubler")
    assert answer["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert answer["versions"] == ["1"]
    assert "binary_tensor_data" in served.ask("GET", "/v2")[1]["extensions"]
    assert served.ask("GET", "/v2/")[0] == 200


def test_a_request_id_comes_back_only_if_it_is_well_formed(served: InProcessPlatform) -> None:
    assert served.ask("GET", "/v2", headers={"X-Request-Id": "abc-1"})[2]["x-request-id"] == "abc-1"
    assert served.ask("GET", "/v2", headers={"X-Request-Id": "a b"})[2]["x-request-id"] != "a b"


@pytest.mark.parametrize("timeout", ["nan", "inf", "soon", "1_0", ""])
def test_a_timeout_that_is_no_number_is_refused(served: InProcessPlatform, timeout: str) -> None:
    status, answer, _ = served.ask("POST", INFER, BODY, {"X-Request-Timeout": timeout})
    assert status == 400
    assert answer["error"].startswith("X-Request-Timeout: expected a number")


@pytest.mark.parametrize("timeout", ["1e9", "300"])
def test_a_long_timeout_is_cut(served: InProcessPlatform, timeout: str) -> None:
    assert served.ask("POST", INFER, BODY, {"X-Request-Timeout": timeout})[0] == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(served: InProcessPlatform) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as caller:
        caller.sendall(
            f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**9}\r\n\r\n".encode()
        )
        assert caller.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_over_the_limit_is_refused_when_it_passes_it(
    served: InProcessPlatform,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    chunks = (b"x" * 60_000 for _ in range(1 + EDGE.max_body_bytes // 60_000))
    connection.request("POST", INFER, chunks, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_one_connection_serves_many_requests(served: InProcessPlatform) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    for _ in range(5):
        connection.request("GET", "/v2/health/live")
        assert orjson.loads(connection.getresponse().read()) == {"live": True}
    connection.close()


def test_a_deadline_is_kept_and_a_caller_who_leaves_takes_the_work_along(tmp_path: Any) -> None:
    loader = GateLoader()
    rows = np.ones((1, 4), np.float32)
    with in_process_platform(tmp_path, loader) as running:
        gated = loader.backend
        gated.shut()
        try:
            stuck = threading.Thread(target=running.infer, args=(rows,))
            stuck.start()
            assert gated.entered.wait(30)
            status, answer, _ = running.infer(rows, parameters={"timeout": 50_000})
            assert (status, answer["code"]) == (504, "deadline_exceeded")
            _leave_one_request(running)
            running.infer(rows, parameters={"timeout": 50_000})
        finally:
            gated.open()
        stuck.join()
        assert running.infer(rows)[0] == 200


def _leave_one_request(running: InProcessPlatform) -> None:
    body = orjson.dumps(
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    )
    with socket.create_connection(("127.0.0.1", running.port)) as caller:
        caller.sendall(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
            % (INFER.encode(), len(body), body)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_status_and_says_nothing_internal(kind: type[HeadraceError]) -> None:
    response = problem(kind("one sentence", retry_after_s=1.5), "id")
    assert response.status == next(STATUS[k] for k in kind.__mro__ if k in STATUS)
    assert (b"retry-after", b"2") in response.headers


def test_an_error_that_is_not_ours_is_named_to_nobody() -> None:
    body = orjson.loads(problem(KeyError("/secret/path"), "id").body)
    assert body == {
        "error": "the server failed on this request",
        "code": "internal",
        "request_id": "id",
    }
