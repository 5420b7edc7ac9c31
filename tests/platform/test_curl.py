"""Plain curl: the README's commands, and the headers that curl sends by itself."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from tests import data
from tests.platform.running import Platform

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

CLASSIFY = "/v1/models/efficientnet-lite0:classify"
DOMAIN = ["-d", '{"input": "xkqjzvbwpt.com"}']
COMMANDS = re.findall(
    r"^\$ (curl http://127\.0\.0\.1:8000/.*)$", Path("README.md").read_text(), re.MULTILINE
)


class Said(NamedTuple):
    """The answer that curl got, and the headers of all answers on the way, in lower case."""

    status: int
    document: Any
    headers: str


Curl = Callable[..., Said]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "coffee.png"
    path.write_bytes(data.photo(path.name))
    return path


@pytest.fixture
def curl(served: Platform, photo: Path) -> Curl:
    """Runs curl beside the photo. A path stands for a URL of the platform."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    def curl(path: str, *arguments: str) -> Said:
        url = f"http://127.0.0.1:{served.port}{path}"
        command = [
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "-D",
            "headers",
            "-w",
            "\n%{http_code}",
        ]
        done = subprocess.run(
            [*command, url, *arguments],
            capture_output=True,
            check=True,
            cwd=photo.parent,
            timeout=90,
        )
        body, _, status = done.stdout.rpartition(b"\n")
        return Said(int(status), orjson.loads(body), (photo.parent / "headers").read_text().lower())

    return curl


def test_the_readme_has_commands() -> None:
    assert COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_answered(curl: Curl, command: str) -> None:
    url, *arguments = shlex.split(command)[1:]
    said = curl(url.removeprefix("http://127.0.0.1:8000"), *arguments)
    assert said.status == 200
    assert said.document["results"][0][0]["score"] > 0.9


PHOTO = ["-H", "content-type: image/png"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-F", "file=@coffee.png"],
        ["-F", "file=@coffee.png;type=image/png;filename=../../etc/passwd"],
        ["-X", "POST", "-T", "coffee.png", *PHOTO],
        ["-H", "Expect:", "--data-binary", "@coffee.png", *PHOTO],
        ["-H", "Transfer-Encoding: chunked", "--data-binary", "@coffee.png", *PHOTO],
        ["--http1.0", "--data-binary", "@coffee.png", *PHOTO],
        ["--compressed", "--data-binary", "@coffee.png", *PHOTO],
    ],
    ids=["form", "form-with-a-path", "upload", "no-expect", "chunked", "http-1.0", "compressed"],
)
def test_a_photo_arrives_however_it_is_sent(curl: Curl, arguments: list[str]) -> None:
    said = curl(CLASSIFY, *arguments)
    assert said.status == 200, said.document
    assert said.document["results"][0][0]["label"] == "espresso"


def test_a_large_body_that_waits_to_be_asked_for_is_asked_for(curl: Curl) -> None:
    said = curl(CLASSIFY, "-H", "Expect: 100-continue", "--data-binary", "@coffee.png", *PHOTO)
    assert said.status == 200
    assert said.headers.startswith("http/1.1 100 continue")


def test_a_body_that_would_be_refused_is_not_asked_for(curl: Curl) -> None:
    said = curl("/v1/nowhere", "-H", "Expect: 100-continue", "--data-binary", "@coffee.png", *PHOTO)
    assert said.status == 404
    assert "100 continue" not in said.headers


def test_compressed_is_a_library_s_list_and_no_wish(curl: Curl) -> None:
    said = curl("/v1/models/dga-lstm:classify", "--compressed", *DOMAIN)
    assert said.document["results"][0][0]["label"] == "generated"
    assert "content-encoding" not in said.headers


def test_an_upgrade_to_http_2_is_ignored(curl: Curl) -> None:
    said = curl("/v2/health/ready", "--http2")
    assert (said.status, said.document) == (200, {"ready": True})
    assert said.headers.startswith("http/1.1 200")


def test_an_upgrade_with_a_body_is_ignored_too(curl: Curl) -> None:
    """Java's own client offers HTTP/2 with its first request, whatever that is."""
    said = curl("/v1/models/dga-lstm:classify", "--http2", *DOMAIN)
    assert said.status == 200
    assert said.headers.startswith("http/1.1 200")


def test_http_2_without_asking_is_refused(curl: Curl) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        curl("/v2/health/ready", "--http2-prior-knowledge")


def test_a_put_is_told_what_the_path_takes(curl: Curl) -> None:
    said = curl(CLASSIFY, "-T", "coffee.png", *PHOTO)
    assert (said.status, said.document["code"]) == (405, "method_not_allowed")
    assert "allow: post" in said.headers
