"""The number of classes, wherever it is given; and forms whose parts name their encoding."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from loadtests.support.bad_inputs.photos import png
from loadtests.support.http_request import HttpAnswer
from loadtests.support.in_process_platform import InProcessPlatform
from tests.conformance.talk import post, refused
from tests.conformance.zoo import serve

pytestmark = pytest.mark.zoo

PATH = "/v1/models/efficientnet-lite0:classify"
FORM = {"content-type": "multipart/form-data; boundary=cut"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with serve(tmp_path_factory.mktemp("photos"), "efficientnet-lite0") as running:
        yield running


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with serve(tmp_path_factory.mktemp("texts"), "dga-lstm") as running:
        yield running


def part(name: str, content: bytes, *lines: str) -> bytes:
    head = "".join(
        f"{line}\r\n" for line in (f'Content-Disposition: form-data; name="{name}"', *lines)
    )
    return b"--cut\r\n" + head.encode() + b"\r\n" + content + b"\r\n"


def send(served: InProcessPlatform, *parts: bytes, query: str = "") -> HttpAnswer:
    return post(served.port, PATH + query, b"".join(parts) + b"--cut--\r\n", FORM)


def classes(said: HttpAnswer) -> list[Any]:
    assert said.status == 200, said.body
    (found,) = said.json["results"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("coding", ["binary", "8bit", "7bit", "BINARY", " 8Bit "])
def test_a_coding_that_changes_nothing_changes_nothing(
    served: InProcessPlatform, coding: str
) -> None:
    line = f"Content-Transfer-Encoding: {coding}"
    expected = classes(send(served, part("file", png())))
    assert classes(send(served, part("file", png(), line))) == expected
    assert (
        classes(send(served, part("top_k", b"1", line), part("file", png(), line))) == expected[:1]
    )


@pytest.mark.parametrize("coding", ["base64", "quoted-printable", "x-uuencode", ""])
def test_another_coding_is_refused(served: InProcessPlatform, coding: str) -> None:
    said = send(served, part("file", png(), f"Content-Transfer-Encoding: {coding}"))
    assert refused(said, 400, "bad_request")
    assert (
        "expected parts with the Content-Transfer-Encoding binary or 8bit or 7bit"
        in said.json["error"]
    )


def test_a_photo_s_classes_are_as_many_as_the_form_or_the_query_says(
    served: InProcessPlatform,
) -> None:
    photo = part("file", png())
    assert len(classes(send(served, photo))) == 5
    assert len(classes(send(served, photo, part("top_k", b"7")))) == 7
    assert len(classes(send(served, photo, query="?top_k=2&colour=red"))) == 2
    assert (
        len(classes(post(served.port, f"{PATH}?top_k=3", png(), {"content-type": "image/png"})))
        == 3
    )


def test_a_text_s_classes_are_as_many_as_the_query_says(texts: InProcessPlatform) -> None:
    path, body = "/v1/models/dga-lstm:classify", {"input": "gnu.org"}
    assert len(classes(post(texts.port, path, body))) == 2
    assert len(classes(post(texts.port, f"{path}?top_k=1", body))) == 1
    assert len(classes(post(texts.port, f"{path}?top_k=1", {**body, "top_k": None}))) == 1
    twice = post(texts.port, f"{path}?top_k=1", {**body, "top_k": 1})
    assert refused(twice, 400)
    assert (
        twice.json["error"] == "top_k: expected once, in the query or in the body, found 2 of them"
    )


@pytest.mark.parametrize("top_k", ["0", "1001", "-1", "1.0", "", "one", "1_0", "%31%00"])
def test_another_number_of_classes_is_refused(texts: InProcessPlatform, top_k: str) -> None:
    said = post(
        texts.port,
        f"/v1/models/dga-lstm:classify?top_k={top_k}",
        orjson.dumps({"input": "gnu.org"}),
    )
    assert refused(said, 400, "bad_request")
    assert said.json["error"].startswith("top_k: expected 1 to 1000, found ")


def test_a_form_with_two_values_of_top_k_or_one_that_is_no_text_is_refused(
    served: InProcessPlatform,
) -> None:
    photo = part("file", png())
    assert refused(
        send(served, photo, part("top_k", b"1"), part("top_k", b"1")), 400, "bad_request"
    )
    assert refused(send(served, photo, part("top_k", b"1"), query="?top_k=1"), 400, "bad_request")
    assert refused(send(served, photo, part("top_k", b"\xff")), 400, "bad_request")
    assert refused(send(served, photo, part("top_k", b"many")), 400, "bad_request")
