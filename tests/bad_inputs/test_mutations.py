"""Generated attacks: a randomly damaged request gets one of HTTP's refusals, or its due."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from loadtests.support.raw_http import call
from tests.bad_inputs.conftest import LoneGateway
from tests.bad_inputs.goldens import PLAIN, ZOO, split
from tests.platform.running import Platform

REFUSALS = {400, 404, 413, 415}
# A damaged head may ask for anything that HTTP has a status for.
HEAD_REFUSALS = REFUSALS | {401, 405, 408, 414, 417, 421, 429, 431, 501, 505}
generated = settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("endpoint")) as running:
        yield running


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """With bytes flipped, left out, put in, doubled, or the end cut off."""
    damage = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(damage) - 1)))
        match draw(st.sampled_from(["flip", "drop", "insert", "double", "cut"])):
            case "flip":
                damage[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "drop":
                del damage[place : place + draw(st.integers(1, 8))]
            case "insert":
                damage[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "double":
                damage[place:place] = damage[place : place + draw(st.integers(1, 32))]
            case _:
                del damage[place:]
    return bytes(damage)


def with_length(lines: list[bytes], body: bytes) -> bytes:
    """The request with a Content-Length that is right."""
    kept = [line for line in lines if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([*kept, b"Content-Length: %d" % len(body), b"", body])


@pytest.mark.parametrize("name", PLAIN)
@generated
@given(data=st.data())
def test_a_damaged_body_is_read_or_refused(
    endpoint: InProcessPlatform, name: str, data: st.DataObject
) -> None:
    lines, body = split(PLAIN[name])
    answer = call(endpoint.port, with_length(lines, data.draw(damaged(body))))
    assert answer.status in {200, *REFUSALS}, answer


@pytest.mark.parametrize("name", PLAIN)
@generated
@given(data=st.data())
def test_a_damaged_head_is_read_or_refused(
    impatient: LoneGateway, name: str, data: st.DataObject
) -> None:
    lines, body = split(PLAIN[name])
    answer = call(impatient.port, data.draw(damaged(b"\r\n".join(lines))) + b"\r\n\r\n" + body)
    assert answer.status in {0, 200, *HEAD_REFUSALS}, answer


@pytest.mark.parametrize("name", PLAIN)
@generated
@given(data=st.data())
def test_headers_of_other_requests_are_borne(
    endpoint: InProcessPlatform, name: str, data: st.DataObject
) -> None:
    lines, body = split(PLAIN[name])
    names = [
        "Content-Type",
        "Content-Encoding",
        "Inference-Header-Content-Length",
        "Accept-Encoding",
        "X-Request-Timeout",
        "X-Request-Id",
        "Authorization",
        "Accept",
    ]
    values = [
        "",
        "0",
        "-1",
        "10",
        "99999",
        "gzip",
        "deflate",
        "application/json",
        "image/png",
        "multipart/form-data",
        "é",
    ]
    more = data.draw(
        st.lists(st.tuples(st.sampled_from(names), st.sampled_from(values)), min_size=1, max_size=4)
    )
    answer = call(
        endpoint.port, with_length([*lines, *(f"{n}: {v}".encode() for n, v in more)], body)
    )
    # 504: a deadline of a millisecond is among the headers.
    assert answer.status in {200, 504, *REFUSALS}, answer


@pytest.mark.parametrize("name", PLAIN)
@generated
@given(data=st.data())
@pytest.mark.slow("searches many generated cases")
def test_any_chunks_hold_the_same_body(
    endpoint: InProcessPlatform, name: str, data: st.DataObject
) -> None:
    lines, body = split(PLAIN[name])
    whole = call(endpoint.port, PLAIN[name])
    kept = [line for line in lines if not line.lower().startswith(b"content-length:")]
    chunks = bytearray()
    while body:
        size = data.draw(st.integers(1, len(body)))
        chunks += b"%x\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    head = b"\r\n".join([*kept, b"Transfer-Encoding: chunked", b"", b""])
    answer = call(endpoint.port, head + bytes(chunks) + b"0\r\n\r\n")
    assert (answer.status, answer.body if answer.status == 200 else b"") == (
        whole.status,
        whole.body if whole.status == 200 else b"",
    )


@pytest.mark.ray
@pytest.mark.zoo
@pytest.mark.parametrize("name", ZOO)
@generated
@given(data=st.data())
def test_a_damaged_body_is_read_or_refused_by_every_door(
    served: Platform, name: str, data: st.DataObject
) -> None:
    lines, body = split(ZOO[name])
    answer = call(served.port, with_length(lines, data.draw(damaged(body))))
    assert answer.status in {200, *REFUSALS}, answer
