"""Counters and times of a gateway against its clients' record: slow, refused, failed and gone."""

import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import orjson
import pytest
from loadtests.support.gated_backend import GatedBackend
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from loadtests.support.metrics import samples
from prometheus_client.samples import Sample

from headrace.backends import Backend
from headrace.gateway.settings import GatewayLimits
from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now
from headrace.telemetry.prometheus import SECONDS
from headrace_models.repository import ModelVersion

INFER, PREDICT = "/v2/models/doubler/infer", "/v1/models/doubler:predict"
POISON = 13.0
PLACES = 8
# Of a body on its way; nothing is asserted of how long an answer takes, but that this is no part of
# it.
PAUSE_S = 1.1
JSON = "Content-Type: application/json"


class Faulty(GatedBackend):
    """Fails on one value, and may be shut."""

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if POISON in inputs["x"]:
            raise RuntimeError("it fails on this")
        return super().run(inputs)


class Way(NamedTuple):
    """The end of a request, as its client knows it."""

    model: str
    endpoint: str
    status: int
    outcome: str


class Client:
    """Asks, and records how each request ended and how long its answer took after its last byte."""

    def __init__(self, served: InProcessPlatform, key: str) -> None:
        self._served = served
        self.key = key
        self.took_s: dict[Way, list[float]] = {}
        self.codes: Counter[str] = Counter()
        self.paused_s: list[float] = []

    def ask(
        self,
        target: str,
        way: Way,
        code: str = "",
        body: bytes = b"",
        *headers: str,
        method: str = "POST",
        version: str = "HTTP/1.1",
        pause: Callable[[], None] | None = None,
    ) -> None:
        """One request that must end so; with `pause` half of its body comes later."""
        with self.connect() as caller:
            head = self.head(
                method, target, len(body), *headers, version=version, waits=pause is not None
            )
            if pause is not None:
                caller.sendall(head)
                assert caller.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
                begun_s = monotonic()
                caller.sendall(body[: len(body) // 2])
                pause()
                self.paused_s.append(monotonic() - begun_s)
                head, body = b"", body[len(body) // 2 :]
            sent_s = monotonic()
            caller.sendall(head + body)
            answer = caller.recv(1)
            took_s = monotonic() - sent_s
            answer += caller.recv(100_000)
        assert int(answer.split()[1]) == way.status, answer
        self.record(way, code, took_s)

    def record(self, way: Way, code: str, *took_s: float) -> None:
        self.took_s.setdefault(way, []).extend(took_s)
        if code:
            assert way.outcome != "answered"
            self.codes[code] += 1

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._served.port), timeout=20)

    def head(
        self,
        method: str,
        target: str,
        length: int,
        *headers: str,
        version: str = "HTTP/1.1",
        waits: bool = False,
    ) -> bytes:
        lines = [
            f"{method} {target} {version}",
            "Host: localhost",
            f"Authorization: Bearer {self.key}",
            *headers,
        ]
        lines += [f"Content-Length: {length}"] if length else []
        return "\r\n".join([*lines, *(["Expect: 100-continue"] if waits else []), "", ""]).encode()


def tensor(value: float) -> bytes:
    return orjson.dumps(
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [value] * 4}]}
    )


def reset(caller: socket.socket) -> None:
    """Leave as a process does that is killed: nothing more is read or sent."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()


Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(served: InProcessPlatform) -> Figures:
    found: Sequence[Sample] = samples(served.gateway.metrics)
    return {(s.name, frozenset(s.labels.items())): s.value for s in found}


def label(key: tuple[str, frozenset[tuple[str, str]]], name: str) -> str:
    return dict(key[1]).get(name, "")


def grown(before: Figures, after: Figures, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """The growth of a name's series, summed by labels; only those that grew."""
    by: Counter[tuple[str, ...]] = Counter()
    for key, value in after.items():
        if key[0] == name and value != before.get(key, 0):
            named = tuple(label(key, wanted) for wanted in labels)
            by[named] += value - before.get(key, 0)  # type: ignore[assignment]
    return by


def until(served: InProcessPlatform, name: str, value: float, **labels: str) -> None:
    end_s = monotonic() + 20
    while figures(served).get((name, frozenset(labels.items()))) != value:
        assert monotonic() < end_s, name


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A key file, a key without limits, and one that may ask once."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    texts = []
    for name, rate in (("all", None), ("once", 1e-6)):
        key, text = issue(name, utc_now(), rate=rate)
        add_key(path, key)
        texts.append(text)
    return path, texts[0], texts[1]


@pytest.fixture(scope="module")
def town(
    tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, str, str]
) -> Iterator[tuple[InProcessPlatform, Faulty]]:
    made: list[Faulty] = []

    def load(version: ModelVersion, name: str) -> Backend:
        made.append(Faulty(version, name))
        return made[0]

    limits = GatewayLimits(max_in_flight=PLACES, default_timeout_s=20.0)
    with in_process_platform(
        tmp_path_factory.mktemp("plain"), load, keys=keys[0], limits=limits
    ) as served:
        yield served, made[0]


ANSWERED = Way("doubler", "infer", 200, "answered")
ROWS = orjson.dumps({"instances": [[1.0] * 4]})


def mixed(client: Client, limited_key: str) -> None:
    """One of each that needs no other state."""
    client.ask(INFER, ANSWERED, "", tensor(1))
    client.ask("/v2/models/doubler", Way("doubler", "metadata", 200, "answered"), method="GET")
    client.ask("/v2/health/live", Way("", "health", 200, "answered"), method="GET")
    client.ask(INFER, Way("doubler", "infer", 400, "caller"), "bad_json", b"{")
    client.ask(
        "/v2/models/nobody/infer", Way("", "infer", 404, "caller"), "model_not_found", tensor(1)
    )
    client.ask("/nowhere", Way("", "none", 404, "caller"), "not_found", method="GET")
    client.ask(INFER, Way("", "none", 405, "caller"), "method_not_allowed", method="PUT")
    client.ask(INFER, Way("", "infer", 413, "caller"), "body_too_large", b"1" * 100_001)
    client.ask(
        INFER,
        Way("", "infer", 415, "caller"),
        "unsupported_media_type",
        b"1",
        "Content-Type: text/html",
    )
    client.ask("/v2", Way("", "none", 501, "caller"), "method_not_implemented", method="BREW")
    client.ask(
        "/v2",
        Way("", "none", 505, "caller"),
        "http_version_not_supported",
        method="GET",
        version="HTTP/2.0",
    )
    client.ask(INFER, Way("doubler", "infer", 500, "ours"), "model_error", tensor(POISON))
    key, client.key = client.key, "hr_nobody.nothing"
    client.ask(INFER, Way("", "infer", 401, "caller"), "unauthorized", tensor(1))
    client.key = limited_key
    client.ask(INFER, Way("", "infer", 429, "caller"), "quota_exceeded", tensor(1))
    client.key = key


def end_early(client: Client) -> None:
    """Half a body, and then the end or nothing but a reset."""
    with client.connect() as caller:
        caller.sendall(client.head("POST", INFER, 10) + b"{")
        caller.shutdown(socket.SHUT_WR)
        assert b"body_truncated" in caller.recv(1000)
    client.record(Way("", "infer", 400, "caller"), "body_truncated", float("inf"))
    caller = client.connect()
    caller.sendall(client.head("POST", INFER, 10, "Expect: 100-continue"))
    assert b"100" in caller.recv(100)
    reset(caller)
    client.record(Way("", "infer", 499, "left"), "", float("inf"))


def crowd(client: Client, served: InProcessPlatform, model: Faulty) -> None:
    """A model that does not answer: out of time, gone, and no room for one more."""
    model.shut()
    with ExitStack() as stack:
        callers = [stack.enter_context(client.connect()) for _ in range(PLACES - 2)]
        for number, caller in enumerate(callers, 1):
            caller.sendall(client.head("POST", INFER, len(tensor(2))) + tensor(2))
            until(served, "headrace_requests_in_flight", number)
        assert model.entered.wait(20)
        client.ask(INFER, Way("", "infer", 503, "state"), "overloaded", tensor(3))
        reset(callers.pop())
        until(served, "headrace_requests_in_flight", PLACES - 3)
        client.record(Way("doubler", "infer", 499, "left"), "", float("inf"))
        out_of_time = Way("doubler", "infer", 504, "state")
        client.ask(INFER, out_of_time, "deadline_exceeded", tensor(3), "X-Request-Timeout: 0.1")
        model.open()
        for caller in callers:
            assert b" 200 " in caller.recv(20)
            client.record(ANSWERED, "", float("inf"))


@pytest.mark.slow("waits for seconds on the real clock")
def test_counters_and_buckets_are_what_the_clients_saw(
    town: tuple[InProcessPlatform, Faulty], keys: tuple[Path, str, str]
) -> None:
    served, model = town
    client = Client(served, keys[1])
    client.key = keys[2]
    client.ask(INFER, ANSWERED, "", tensor(1))  # all that this key may ask
    client.key = keys[1]
    before = figures(served)
    client.took_s.clear()

    def others() -> None:
        end_s = monotonic() + PAUSE_S
        while monotonic() < end_s:
            mixed(client, keys[2])

    slow = Way("doubler", "predict", 200, "answered")
    client.ask(PREDICT, slow, "", ROWS, JSON, pause=others)
    # The time for an answer is not used up by the body.
    client.ask(PREDICT, slow, "", ROWS, JSON, "X-Request-Timeout: 1", pause=others)
    end_early(client)
    crowd(client, served, model)
    client.ask(PREDICT, slow, "", ROWS, JSON, pause=others)
    until(served, "headrace_requests_in_flight", 0)
    after = figures(served)

    by_way = {tuple(map(str, way)): len(took_s) for way, took_s in client.took_s.items()}
    assert (
        grown(before, after, "headrace_requests_total", "model", "api", "code", "outcome") == by_way
    )
    assert grown(before, after, "headrace_errors_total", "code") == {
        (code,): n for code, n in client.codes.items()
    }
    by_outcome: Counter[tuple[str, ...]] = Counter()
    for way, took_s in client.took_s.items():
        by_outcome[way.model, way.endpoint, way.outcome] += len(took_s)
    assert (
        grown(before, after, "headrace_request_seconds_count", "model", "api", "outcome")
        == by_outcome
    )
    for named in by_outcome:
        took_s = [
            one
            for way, all_s in client.took_s.items()
            if (way.model, way.endpoint, way.outcome) == named
            for one in all_s
        ]
        for bound_s in SECONDS:
            in_time = dict(
                zip(("model", "api", "outcome", "le"), (*named, str(bound_s)), strict=True)
            )
            assert of(before, after, "headrace_request_seconds_bucket", in_time) >= sum(
                s <= bound_s for s in took_s
            )

    labels = {"model": "doubler", "api": "predict", "outcome": "answered"}
    assert of(before, after, "headrace_request_seconds_sum", labels) <= sum(client.took_s[slow])
    receipt = {"api": "predict"}
    assert of(before, after, "headrace_receipt_seconds_count", receipt) == 3
    assert (
        of(before, after, "headrace_receipt_seconds_sum", receipt)
        >= sum(client.paused_s)
        >= 3 * PAUSE_S
    )
    assert of(before, after, "headrace_receipt_seconds_bucket", {**receipt, "le": "1.0"}) == 0

    counters = {key for key in after if key[0].endswith("_total")}
    assert counters == {key for key in before if key[0].endswith("_total")}, (
        "each was there before it counted"
    )


def of(before: Figures, after: Figures, name: str, labels: Mapping[str, str]) -> float:
    """The growth of the series with these labels."""
    return sum(
        value - before.get(key, 0)
        for key, value in after.items()
        if key[0] == name and labels.items() <= dict(key[1]).items()
    )
