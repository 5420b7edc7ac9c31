"""Every route of both ports with every method: the answers are those of HTTP, and neither port has
the other's.
"""

import http.client
import re
from collections.abc import Sequence
from typing import Any

import pytest
from tests.bad_inputs.conftest import LoneGateway
from tests.platform.running import Platform

from headrace.admin import routes as admin
from headrace.edge.exchange import Route
from headrace.gateway.api import endpoints

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO"]
OPEN = {"/v2/health/live", "/v2/health/ready"}


DATA: Sequence[Route[Any]] = endpoints.ROUTES
ADMIN: Sequence[Route[Any]] = admin.ROUTES


def path_of(template: str) -> str:
    """A path of the route. It names no model, so that no request of the test changes one."""
    return re.sub(r"\{[a-z_]+\}", "nobody", template)


def ask(port: int, method: str, path: str) -> tuple[int, str | None]:
    """Status, and the Allow header if there is one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("allow")
    finally:
        connection.close()


def templates(routes: Sequence[Route[Any]]) -> list[str]:
    return sorted({route.template for route in routes})


def test_both_ports_have_routes() -> None:
    assert DATA
    assert ADMIN


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("template", templates(DATA))
def test_a_route_of_the_data_port_answers_each_method_as_http_has_it(
    served: Platform, template: str, method: str
) -> None:
    check(DATA, template, method, ask(served.port, method, path_of(template)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("template", templates(ADMIN))
def test_a_route_of_the_admin_port_answers_each_method_as_http_has_it(
    served: Platform, template: str, method: str
) -> None:
    check(ADMIN, template, method, ask(served.admin_port, method, path_of(template)))


@pytest.mark.parametrize("template", sorted(set(templates(ADMIN)) - set(templates(DATA))))
def test_the_data_port_has_no_route_of_the_admin_port(served: Platform, template: str) -> None:
    methods = {route.method for route in ADMIN if route.template == template}
    assert {ask(served.port, method, path_of(template))[0] for method in methods} == {404}


@pytest.mark.parametrize("template", templates(DATA))
def test_without_a_key_nothing_but_health_is_told(keyed: LoneGateway, template: str) -> None:
    methods = {route.method for route in DATA if route.template == template}
    found = {ask(keyed.port, method, path_of(template))[0] for method in methods}
    assert found == ({200} if template in OPEN else {401})


def check(
    routes: Sequence[Route[Any]], template: str, method: str, answered: tuple[int, str | None]
) -> None:
    status, allowed = answered
    assert status < 500 or status == 501
    known = {route.method for route in routes if route.template == template}
    if "GET" in known:
        known.add("HEAD")
    if method in known:
        assert status not in (405, 501)
    elif status == 405:
        assert allowed is not None
        assert known <= set(allowed.replace(" ", "").split(","))
    else:
        assert (method, status) in {("CONNECT", 400), ("FOO", 400), ("FOO", 501)}
