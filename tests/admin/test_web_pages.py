"""The admin port for browsers: its own names, its own pages, and changes only as JSON."""

import http.client
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest
from loadtests.support.ports import free_port
from tests.admin.test_repository import Operator

from headrace.admin.program import AdminConfig, serve_admin
from headrace.admin.repository import AdminContext
from headrace.admin.routes import ROUTES
from headrace.admin.settings import AdminSettings
from headrace.process.loop_thread import LoopThread

CHANGES = sorted(
    {r.template.format(model="m", repository="r") for r in ROUTES if r.method == "POST"}
)
PAGES = sorted({r.template for r in ROUTES if r.method == "GET"})
JSON = {"Content-Type": "application/json"}


class AdminPort:
    """An admin port with an operator that records instructions."""

    def __init__(self, *names: str) -> None:
        self.operator = Operator()
        context = AdminContext(
            self.operator.fleet, self.operator.give_instruction, self.operator.change_logging
        )
        self.number = free_port()
        config = AdminConfig(
            settings=AdminSettings(port=self.number), names=names, address="127.0.0.1"
        )
        self.thread: LoopThread[str] = LoopThread("admin", partial(serve_admin, config, context))

    def ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.number, timeout=5)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return (
                answer.status,
                answer.read(),
                {name.lower(): value for name, value in answer.getheaders()},
            )
        finally:
            connection.close()

    def code(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, text, _ = self.ask(method, path, body, named)
        return status, orjson.loads(text)["code"] if status >= 400 else ""


@pytest.fixture(scope="module")
def running() -> Iterator[AdminPort]:
    port = AdminPort("head")
    port.thread.start(20)
    yield port
    port.thread.stop()
    assert port.thread.wait(20)


@pytest.fixture
def port(running: AdminPort) -> AdminPort:
    running.operator.orders.clear()
    return running


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_for_own_names_alone(port: AdminPort, path: str) -> None:
    for name in ("evil.example", "evil.example:8001", "head.evil.example"):
        assert port.code("GET", path, Host=name) == (421, "misdirected")
    for name in ("127.0.0.1", "localhost:8001", "[::1]:8001", "HEAD.:8001"):
        assert port.code("GET", path, Host=name)[0] == 200


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_its_body(port: AdminPort, path: str) -> None:
    got, head = port.ask("GET", path, b"", {}), port.ask("HEAD", path, b"", {})
    assert (head[0], head[1]) == (200, b"")
    assert head[2] | {"x-request-id": ""} == got[2] | {"x-request-id": ""}


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("body", [b"", b"{}"])
@pytest.mark.parametrize(
    "headers",
    [
        {
            "Origin": "https://evil.example",
            "Sec-Fetch-Site": "cross-site",
            "Content-Type": "text/plain",
        },
        {"Origin": "https://evil.example", **JSON},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(
    port: AdminPort, path: str, body: bytes, headers: dict[str, str]
) -> None:
    status, text, answered = port.ask("POST", path, body, headers)
    assert (status, orjson.loads(text)["code"]) == (403, "foreign_origin")
    assert not [name for name in answered if name.startswith("access-control")]
    assert port.operator.orders == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"]
)
@pytest.mark.parametrize("path", CHANGES)
def test_a_change_is_no_form(port: AdminPort, path: str, kind: str) -> None:
    assert port.code("POST", path, b"{}", Content_Type=kind) == (415, "unsupported_media_type")
    assert port.operator.orders == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"{}", {}),
        (b"{}", JSON),
        (b"{}", {"Content-Type": "application/json; charset=utf8"}),
        (b"{}", {"Content-Type": "application/octet-stream"}),
        (b"{}", {**JSON, "Origin": "http://HEAD", "Host": "head", "Sec-Fetch-Site": "same-origin"}),
        (b"{}", {**JSON, "Sec-Fetch-Site": "none"}),
    ],
)
def test_clients_and_the_ports_own_pages_change_what_they_like(
    port: AdminPort, body: bytes, headers: dict[str, str]
) -> None:
    assert port.ask("POST", "/v2/repository/models/m/load", body, headers)[0] == 200
    assert [order.kind for order in port.operator.orders] == ["load"]


def test_nothing_is_asked_before_a_request_here(port: AdminPort) -> None:
    """A browser then sends no request that needs a preflight, as JSON to another site does."""
    assert port.code("OPTIONS", CHANGES[0], Origin="http://127.0.0.1") == (
        405,
        "method_not_allowed",
    )
