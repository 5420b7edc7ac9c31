"""Triton's own load generator, unmodified. It needs a newer C library than Debian 12 has."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from tests.data import CACHE

from headrace_models.errors import ModelError
from headrace_models.fetch import Package, fetch, read_member

__all__ = ["Report", "analyze", "find_command"]

_PACKAGE = Package(
    registry="PyPI",
    name="perf-analyzer",
    version="2.60.0",
    file="perf_analyzer-2.60.0-py3-none-manylinux_2_38_x86_64.whl",
    sha256="23ef56b107ae9233e5cf09fbdf508dd9b936a52f1bae2f63f53c8117087b3f25",
    options=("--platform", "manylinux_2_38_x86_64", "--only-binary=:all:"),
)
_FOLDER = CACHE.parent / "perf-analyzer"
_BINARY = _FOLDER / _PACKAGE.version / "perf_analyzer"
# A Debian with the libraries that the binary names; whose files are the release's own, by its
# signature.
_SUITE, _LIBRARIES = "trixie", "libstdc++6,libssl3t64,zlib1g"
_SOURCE = re.compile(r"^(?:URIs:|deb)\s+(?:\[[^]]*\]\s+)?(\S+)", re.MULTILINE)
_ROOT_TIMEOUT_S, _RUN_TIMEOUT_S = 150, 60


@dataclass(frozen=True)
class Report:
    """One measurement in microseconds. `stages` are the server's: overhead, queue, compute, ..."""

    requests: int
    rows_per_s: float
    p50_us: int
    p99_us: int
    rows_run: int
    batches_run: int
    requests_run: int
    server_us: int
    stages: dict[str, int]


def analyze(
    command: Sequence[str], port: int, model: str, *options: str
) -> tuple[Report | None, str]:
    """Let it drive a model on 127.0.0.1: its report, None if it failed, and all that it wrote."""
    place = ["-m", model, "-u", f"127.0.0.1:{port}"]
    done = _run([*command, *place, *options], _RUN_TIMEOUT_S)
    return (None if done.returncode else _report(done.stdout)), done.stdout


def _report(text: str) -> Report:
    client, _, server = text.partition("Server:")
    stages = re.search(r"Avg request latency: (\d+) usec \((.*)\)", server)
    assert stages, text
    return Report(
        requests=int(_figure(client, "Request count")),
        rows_per_s=_figure(client, "Throughput"),
        p50_us=int(_figure(client, "p50 latency")),
        p99_us=int(_figure(client, "p99 latency")),
        rows_run=int(_figure(server, "Inference count")),
        batches_run=int(_figure(server, "Execution count")),
        requests_run=int(_figure(server, "Successful request count")),
        server_us=int(stages[1]),
        stages={name: int(us) for name, us in re.findall(r"([a-z][a-z ]*?) (\d+) usec", stages[2])},
    )


def _figure(text: str, name: str) -> float:
    found = re.search(rf"^ +{name}: ([\d.]+)", text, re.MULTILINE)
    assert found, f"no {name} in: {text}"
    return float(found[1])


def find_command() -> tuple[str, ...]:
    """The command that starts it, in its own root where this machine's libraries are too old.

    Skips the calling test, saying why, where neither can be had. All is kept for the next run.
    """
    _unpack()
    here = (str(_BINARY),)
    if _starts(here):
        return here
    root = _FOLDER / _SUITE
    if not root.is_dir():
        _make_root(root)
    within = ("chroot", str(root), "/perf_analyzer")
    return within if _starts(within) else _skip("it does not start in its own root either")


def _unpack() -> None:
    if _BINARY.is_file():
        return
    try:
        content = read_member(fetch(_PACKAGE, CACHE), "perf_analyzer/bin/perf_analyzer")
    except ModelError as error:
        _skip(str(error))
    _BINARY.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=_BINARY.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o755)
    Path(file.name).replace(_BINARY)


def _make_root(root: Path) -> None:
    if os.geteuid() != 0:
        _skip("a root of its own needs the user root")
    if shutil.which("debootstrap") is None:
        _skip("a root of its own needs debootstrap")
    with tempfile.TemporaryDirectory(
        dir=_FOLDER, prefix=".making-", ignore_cleanup_errors=True
    ) as making:
        fresh = Path(making, "root")
        making_it = [
            "debootstrap",
            "--variant=minbase",
            f"--include={_LIBRARIES}",
            _SUITE,
            str(fresh),
            *_mirror(),
        ]
        done = _run(["timeout", str(_ROOT_TIMEOUT_S), *making_it], _ROOT_TIMEOUT_S + 10)
        if done.returncode:
            _skip(f"debootstrap exited {done.returncode}: {done.stdout.strip()[-300:]}")
        shutil.copy(_BINARY, fresh / "perf_analyzer")
        fresh.rename(root)


def _mirror() -> list[str]:
    """The sources of this machine's own packages, empty if it does not tell."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.*"))]
    found = [
        match[1]
        for place in places
        if place.is_file()
        for match in _SOURCE.finditer(place.read_text("utf-8"))
    ]
    return found[:1]


def _starts(words: Sequence[str]) -> bool:
    try:
        return _run([*words, "--version"], _RUN_TIMEOUT_S).returncode == 0
    except OSError:
        return False


def _run(words: Sequence[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _skip(reason: str) -> NoReturn:
    pytest.skip(f"perf_analyzer cannot be run: {reason}")
