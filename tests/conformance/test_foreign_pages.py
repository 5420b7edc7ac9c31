"""A page of another site and others' sequences: it sends no step of one by any endpoint, unless its
site is welcome.
"""

from collections.abc import Iterator

import orjson
import pytest
from loadtests.support.http_request import HttpAnswer
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.conformance.small_models import make_accumulator, make_listener
from tests.conformance.talk import post, refused, tensor

EVIL, LISTED = "https://evil.example", "https://app.example"
INFER, GENERATE, STREAM = (
    "/v2/models/accumulator/infer",
    "/v2/models/accumulator/generate",
    "/v1/models/listener:stream?sequence_id=7&sequence_start=true&sequence_end=true",
)
FOREIGN = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]
OWN_SITES = [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}]


@pytest.fixture(scope="module", params=[(), (LISTED,), ("*",)], ids=["none", "listed", "any"])
def origins(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Pages of which other sites are welcome."""
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture(scope="module")
def sums(
    tmp_path_factory: pytest.TempPathFactory, origins: tuple[str, ...]
) -> Iterator[InProcessPlatform]:
    with in_process_platform(
        tmp_path_factory.mktemp("sums"), make=make_accumulator, origins=origins
    ) as running:
        yield running


@pytest.fixture(scope="module")
def listener(
    tmp_path_factory: pytest.TempPathFactory, origins: tuple[str, ...]
) -> Iterator[InProcessPlatform]:
    with in_process_platform(
        tmp_path_factory.mktemp("listener"), make=make_listener, origins=origins
    ) as running:
        yield running


def add(
    at: InProcessPlatform, path: str, headers: dict[str, str], **parameters: object
) -> HttpAnswer:
    """Add 1 by `path`, as a form may send it; `parameters` make it a step."""
    inputs = {"inputs": [tensor("x", [1, 2], [1, 0])]} if path == INFER else {"x": [1, 0]}
    return post(at.port, path, orjson.dumps({**inputs, "parameters": parameters}), headers)


def sum_of(said: HttpAnswer) -> float:
    assert said.status == 200, said.body
    document = said.json
    values = document["outputs"][0]["data"] if "outputs" in document else document["total"]
    return float(values[0])


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("path", [INFER, GENERATE, GENERATE + "_stream"])
def test_a_page_of_another_site_does_not_touch_a_sequence(
    sums: InProcessPlatform, origins: tuple[str, ...], path: str, headers: dict[str, str]
) -> None:
    assert sum_of(add(sums, INFER, {}, sequence_id=7, sequence_start=True)) == 1
    for flags in ({}, {"sequence_start": True}, {"sequence_end": True}):
        said = add(
            sums,
            path,
            {"Content-Type": "application/x-www-form-urlencoded", **headers},
            sequence_id=7,
            **flags,
        )
        assert said.status == 200 if "*" in origins else refused(said, 403, "foreign_origin")
    if "*" not in origins:
        assert sum_of(add(sums, INFER, {}, sequence_id=7, sequence_end=True)) == 2


@pytest.mark.parametrize("headers", FOREIGN)
def test_nor_does_it_speak_into_a_stream(
    listener: InProcessPlatform, origins: tuple[str, ...], headers: dict[str, str]
) -> None:
    said = post(listener.port, STREAM, b"", {"Content-Type": "", **headers})
    assert said.status == 200 if "*" in origins else refused(said, 403, "foreign_origin")


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("path", [INFER, GENERATE])
def test_what_is_no_step_is_answered_whoever_asks(
    sums: InProcessPlatform, path: str, headers: dict[str, str]
) -> None:
    assert sum_of(add(sums, path, headers)) == 1
    assert sum_of(add(sums, path, headers, sequence_id=0)) == 1


@pytest.mark.parametrize("site", OWN_SITES)
def test_the_servers_own_page_and_who_is_no_page_have_sequences(
    sums: InProcessPlatform, listener: InProcessPlatform, site: dict[str, str]
) -> None:
    step = {"sequence_id": 8, "sequence_start": True, "sequence_end": True}
    assert sum_of(add(sums, INFER, site, **step)) == 1
    assert (
        sum_of(add(sums, GENERATE, {"Origin": f"http://127.0.0.1:{sums.port}", **site}, **step))
        == 1
    )
    assert (
        post(
            listener.port, STREAM, b"", {"Origin": f"http://127.0.0.1:{listener.port}", **site}
        ).status
        == 200
    )


def test_a_page_of_a_listed_site_has_sequences(
    sums: InProcessPlatform, listener: InProcessPlatform, origins: tuple[str, ...]
) -> None:
    page = {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"}
    expected = 200 if origins else 403
    assert (
        add(sums, INFER, page, sequence_id=9, sequence_start=True, sequence_end=True).status
        == expected
    )
    assert post(listener.port, STREAM, b"", page).status == expected
