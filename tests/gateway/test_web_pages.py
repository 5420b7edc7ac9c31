"""Pages in a browser: by which name they come, what they may change, and which of other sites may
read answers.
"""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform

from headrace.gateway.api.endpoints import ROUTES
from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now

INFER = "/v2/models/doubler/infer"
BODY = orjson.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
)
JSON = {"Content-Type": "application/json"}
EVIL, LISTED = "https://evil.example", "https://app.example"
ALLOW, CREDENTIALS, EXPOSED = (
    f"access-control-{name}" for name in ("allow-origin", "allow-credentials", "expose-headers")
)
CHANGES = ["/v2/logging", "/v2/trace/setting", "/v2/models/doubler/trace/setting"]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    """A gateway as it is by default."""
    with in_process_platform(tmp_path_factory.mktemp("closed")) as running:
        yield running


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    """One with another name and one welcome origin, and with keys."""
    folder = tmp_path_factory.mktemp("opened")
    key, text = issue("shop", utc_now())
    add_key(folder / "keys.json", key)
    with in_process_platform(
        folder, keys=folder / "keys.json", names=("Models.Example",), origins=(LISTED,)
    ) as running:
        (folder / "key").write_text(text)
        yield running


@pytest.fixture(scope="module")
def for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(
        tmp_path_factory.mktemp("for_all"), names=("*",), origins=("*", LISTED)
    ) as running:
        yield running


@pytest.fixture
def key(opened: InProcessPlatform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = next(tmp_path_factory.getbasetemp().glob("opened*"))
    return {"Authorization": f"Bearer {(folder / 'key').read_text()}"}


def own(at: InProcessPlatform) -> str:
    return f"http://127.0.0.1:{at.port}"


def code(answered: tuple[int, Any, dict[str, str]]) -> tuple[int, str]:
    status, document, _ = answered
    return status, document["code"] if status >= 400 else ""


@pytest.mark.parametrize("path", ["/v2/health/live", "/v1/models", "/openapi.json", "/nowhere"])
def test_another_name_is_refused_and_told_what_to_set(closed: InProcessPlatform, path: str) -> None:
    for _ in range(2):  # what is remembered is refused too
        status, document, _ = closed.ask("GET", path, headers={"Host": "evil.example"})
        assert (status, document["code"]) == (421, "misdirected")
        assert "[gateway]" in document["error"]


def test_another_name_is_refused_before_a_key_is_looked_at(opened: InProcessPlatform) -> None:
    assert code(opened.ask("GET", "/v1/models", headers={"Host": "evil.example"})) == (
        421,
        "misdirected",
    )


def test_a_listed_name_is_served_however_it_is_written(opened: InProcessPlatform) -> None:
    for name in ("models.example", "MODELS.example.", "models.example:8443", "localhost"):
        assert opened.ask("GET", "/v2/health/live", headers={"Host": name})[0] == 200
    for name in ("x.models.example", "models.example.evil.example", "models"):
        assert opened.ask("GET", "/v2/health/live", headers={"Host": name})[0] == 421


def test_a_star_is_every_name(for_all: InProcessPlatform) -> None:
    assert for_all.ask("GET", "/v2/health/live", headers={"Host": "whatever.example"})[0] == 200


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "odd"},
    ],
)
def test_a_page_of_another_site_changes_nothing(
    closed: InProcessPlatform, path: str, headers: dict[str, str]
) -> None:
    before = closed.ask("GET", path)[1]
    for body in (b"", b'{"log_verbose_level": 3}'):
        assert code(closed.ask("POST", path, body, {**JSON, **headers})) == (403, "foreign_origin")
    assert closed.ask("GET", path)[1] == before


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_change_is_no_form(closed: InProcessPlatform, kind: str) -> None:
    assert code(closed.ask("POST", "/v2/logging", b"{}", {"Content-Type": kind})) == (
        415,
        "unsupported_media_type",
    )


@pytest.mark.parametrize("kind", [{}, {"Content-Type": "application/octet-stream"}])
def test_what_clients_leave_unsaid_is_taken_from_them_and_from_no_page(
    closed: InProcessPlatform, kind: dict[str, str]
) -> None:
    assert closed.ask("POST", "/v2/logging", b"{}", kind)[0] == 200
    assert closed.ask("POST", "/v2/logging", b"{}", {**kind, "Origin": own(closed)})[0] == 415
    assert closed.ask("POST", "/v2/logging", b"{}", {**kind, "Sec-Fetch-Mode": "cors"})[0] == 415


def test_the_servers_own_page_changes_what_it_may(closed: InProcessPlatform) -> None:
    for site in ("same-origin", "none"):
        headers = {**JSON, "Origin": own(closed), "Sec-Fetch-Site": site}
        assert closed.ask("POST", "/v2/logging", b"{}", headers)[0] == 200


def test_a_page_of_another_site_may_ask_but_is_told_that_nothing_is_for_it(
    closed: InProcessPlatform,
) -> None:
    """A harmless request is answered; without the headers, the browser hides it from the page."""
    status, _, headers = closed.ask(
        "POST", INFER, BODY, {**JSON, "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    )
    assert status == 200
    assert not [name for name in headers if name.startswith("access-control") or name == "vary"]
    assert code(closed.ask("OPTIONS", INFER, headers={"Origin": LISTED})) == (
        405,
        "method_not_allowed",
    )


@pytest.mark.parametrize("template", sorted({route.template for route in ROUTES}))
def test_a_browser_may_ask_before_a_request_without_a_key(
    opened: InProcessPlatform, template: str
) -> None:
    path = template.format(
        model="doubler", version="1", label="stable", region="mine", asset="swagger-ui.css"
    )
    status, body, headers = opened.ask(
        "OPTIONS", path, headers={"Origin": LISTED, "Access-Control-Request-Method": "POST"}
    )
    assert (status, body) == (204, b"")
    assert "content-length" not in headers
    assert (headers[ALLOW], headers[CREDENTIALS], headers["vary"]) == (LISTED, "true", "origin")
    methods = {route.method for route in ROUTES if route.template == template}
    assert methods <= set(headers["access-control-allow-methods"].split(", ")) <= {*methods, "HEAD"}
    for name in (
        "authorization",
        "content-type",
        "x-request-id",
        "x-request-timeout",
        "inference-header-content-length",
    ):
        assert name in headers["access-control-allow-headers"].split(", ")
    assert int(headers["access-control-max-age"]) > 0


FIXED = (
    "authorization, content-type, content-encoding, x-request-id, x-request-timeout, "
    "inference-header-content-length"
)
# What openai's client for browsers sends, and what a tracing one adds.
OPENAI = (
    "authorization,content-type,openai-organization,openai-project,traceparent,x-stainless-arch,x-stainless-lang,"
    "x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-timeout"
)


def allowed_headers(opened: InProcessPlatform, names: str) -> str:
    """The headers that a listed page may send, if it asks for these."""
    asked = {
        "Origin": LISTED,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": names,
    }
    status, _, headers = opened.ask("OPTIONS", "/v1/embeddings", headers=asked)
    assert status == 204
    return headers["access-control-allow-headers"]


@pytest.mark.parametrize("names", [OPENAI, "x-a", "x-a, x-b", "X!#$%&'*+-.^_`|~9", "x" * 1024])
def test_a_page_may_send_the_headers_that_it_asks_for(
    opened: InProcessPlatform, names: str
) -> None:
    assert allowed_headers(opened, names) == names


@pytest.mark.parametrize(
    "names", ["", "*/*", "x-a,", ",x-a", "x-a,,x-b", "x-a;x-b", "x a", "x-\u00e9", "x" * 1025]
)
def test_what_is_no_short_list_of_names_is_not_repeated(
    opened: InProcessPlatform, names: str
) -> None:
    assert allowed_headers(opened, names) == FIXED


def test_a_question_with_a_body_is_bounded_as_get_is(opened: InProcessPlatform) -> None:
    asked = {"Origin": LISTED, "Access-Control-Request-Method": "POST"}
    assert opened.ask("OPTIONS", INFER, b"a" * 65_536, asked)[0] == 204
    assert code(opened.ask("OPTIONS", INFER, b"a" * 65_537, asked)) == (413, "body_too_large")


def test_there_is_nothing_to_ask_before_a_path_that_is_not_there(opened: InProcessPlatform) -> None:
    assert code(opened.ask("OPTIONS", "/nowhere", headers={"Origin": LISTED})) == (404, "not_found")


def test_an_origin_that_is_not_listed_may_read_nothing(
    opened: InProcessPlatform, key: dict[str, str]
) -> None:
    for origin in (EVIL, LISTED.upper(), LISTED + ":444", "null", LISTED + ".evil.example"):
        for method, path, body in (
            ("OPTIONS", INFER, b""),
            ("POST", INFER, BODY),
            ("GET", "/nowhere", b""),
        ):
            headers = opened.ask(method, path, body, {"Origin": origin, **key})[2]
            assert ALLOW not in headers
            assert headers["vary"] == "origin"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", INFER, BODY, 200),
        ("GET", "/v2", b"", 200),
        ("GET", "/nowhere", b"", 404),
        ("GET", INFER, b"", 405),
        ("POST", INFER, b"{}", 400),
        ("POST", INFER, b"a" * 200_000, 413),
    ],
)
def test_a_listed_origin_reads_answers_and_refusals(
    opened: InProcessPlatform, key: dict[str, str], method: str, path: str, body: bytes, status: int
) -> None:
    found, _, headers = opened.ask(method, path, body, {**JSON, **key, "Origin": LISTED})
    assert found == status
    assert (headers[ALLOW], headers[CREDENTIALS], headers["vary"]) == (LISTED, "true", "origin")
    readable = set(headers[EXPOSED].split(", "))
    simple = {"content-type", "content-length", "cache-control", "connection", "vary"}
    assert {name for name in headers if not name.startswith("access-control-")} <= readable | simple


def test_a_listed_origin_reads_that_its_key_is_missing(opened: InProcessPlatform) -> None:
    status, _, headers = opened.ask("POST", INFER, BODY, {**JSON, "Origin": LISTED})
    assert (status, headers[ALLOW]) == (401, LISTED)


def test_a_listed_origin_may_change_what_its_key_may(
    opened: InProcessPlatform, key: dict[str, str]
) -> None:
    asked = {**JSON, **key, "Origin": LISTED, "Sec-Fetch-Site": "cross-site"}
    assert opened.ask("POST", "/v2/trace/setting", b"{}", asked)[0] == 200
    assert code(opened.ask("POST", "/v2/trace/setting", b"{}", {**asked, "Origin": EVIL})) == (
        403,
        "foreign_origin",
    )


def test_every_page_may_read_where_all_may_but_none_with_credentials_and_none_may_change(
    for_all: InProcessPlatform,
) -> None:
    _, _, headers = for_all.ask("POST", INFER, BODY, {**JSON, "Origin": EVIL})
    assert headers[ALLOW] == "*"
    assert CREDENTIALS not in headers
    assert for_all.ask("POST", INFER, BODY, {**JSON, "Origin": LISTED})[2][ALLOW] == LISTED
    assert code(for_all.ask("POST", "/v2/logging", b"{}", {**JSON, "Origin": EVIL})) == (
        403,
        "foreign_origin",
    )
