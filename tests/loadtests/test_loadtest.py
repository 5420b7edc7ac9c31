"""The release gate: Locust's users against the real serving path, stand-ins, and nothing."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loadtests.support.in_process_platform import in_process_platform
from rich.console import Console
from tests.keys.certificates import write_pair
from typer.testing import CliRunner

from headrace import backends
from headrace.cli import app
from headrace.config import Objectives
from headrace.errors import StartFailed
from headrace.loadtest.figures import Row
from headrace.loadtest.gate import Verdict, run, show
from headrace_models.repository import ModelVersion

ROOT = Path(__file__).parents[2]
FAST = Row("dga-lstm", 400, 0, 20.0, 5.0, 12.0, 31.0)
FAILING = Row("efficientnet-lite0", 200, 10, 9.5, 60.0, 120.0, 170.04)
EASY = Objectives(p99_ms=60_000)


def gate(
    url: str,
    folder: Path,
    objectives: Mapping[str, Objectives] | None = None,
    duration_s: float = 1,
    **more: Any,
) -> Verdict:
    """A short run; the report goes to, and the repository is in, `folder`."""
    quiet = Console(file=StringIO())
    return run(
        url,
        4,
        duration_s,
        objectives or {},
        folder / "repository",
        folder / "reports",
        console=quiet,
        **more,
    )


def outcome(*sentences: str) -> Verdict:
    total = Row("all", 600, 10, 29.5, 7.0, 90.0, 160.0)
    notes = ("left out minilm-l6: not ready (503)",)
    return Verdict((FAST, FAILING), total, sentences, notes, Path("r.html"), Path("r.json"))


def test_an_outcome_is_good_when_nothing_was_missed() -> None:
    assert outcome().ok
    assert not outcome("too slow").ok


def test_the_table_has_every_model_the_total_what_was_missed_and_how_it_was_measured() -> None:
    printed = StringIO()
    show(outcome("too slow"), Console(width=120, file=printed))
    for expected in (
        "dga-lstm",
        "170.0",
        "all",
        "29.5",
        "missed: too slow",
        "left out minilm-l6",
        "report: r.html",
    ):
        assert expected in printed.getvalue()
    assert "closed loop" in printed.getvalue()


def test_a_server_that_does_not_answer_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(
            StartFailed, match=f"no server answers at {url}; start one with: headrace serve"
        ):
            gate(url, tmp_path)
    assert not (tmp_path / "reports").exists()


def test_an_address_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="url: expected http://host:port, found localhost:8000"):
        gate("localhost:8000", tmp_path)


class Server(BaseHTTPRequestHandler):
    """Serves dga-lstm, where ".org" is benign and everything else generated; and mail-spam, which
    is not ready.

    Of "odd" it has metadata that say nothing.
    """

    protocol_version = "HTTP/1.1"
    status = 200
    models: tuple[str, ...] = ("dga-lstm", "mail-spam")
    score: float | None = 1.0
    answers_with = 200
    hangs: threading.Event | None = None

    def do_GET(self) -> None:
        known: Mapping[str, tuple[int, object]] = {
            "/v1/models": (self.status, {"models": self.models}),
            "/v2/models/dga-lstm/ready": (200, {}),
            "/v2/models/odd/ready": (200, {}),
            "/v2/models/odd": (200, {"versions": ["1"], "inputs": [{"name": "x"}]}),
            "/v2/models/mail-spam/ready": (503, {"error": "it is being loaded"}),
        }
        self._answer(*known.get(self.path, (404, {})))

    def do_POST(self) -> None:
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        if self.hangs:
            self.hangs.wait(60)
            self.close_connection = True
            return
        label = "benign" if text.endswith(".org") else "generated"
        self._answer(self.answers_with, {"results": [[{"label": label, "score": self.score}]]})

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a stand-in, whose class has these attributes; gives its address."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(**attributes: object) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Server", (Server,), attributes))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow("runs the load test for real")
def test_a_run_counts_wrong_answers_and_says_what_it_left_out(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "loadtest_times.json").write_text("an earlier run's", encoding="utf-8")
    found = gate(serve(), tmp_path, duration_s=2)
    assert [row.model for row in found.rows] == ["dga-lstm"]
    assert found.total.requests >= 8
    assert 0 < found.total.failures < found.total.requests
    assert len(found.missed) == 1
    assert "expected failures of at most" in found.missed[0]
    assert found.notes == ("left out mail-spam: not ready (503, it is being loaded)",)
    assert "<html" in found.report.read_text(encoding="utf-8")[:200]
    summary = json.loads(found.summary.read_bytes())
    assert summary["ok"] is False
    assert summary["measured"].startswith("closed loop")


@pytest.mark.parametrize("attributes", [{"score": None}, {"answers_with": 206}])
@pytest.mark.slow("runs the load test for real")
def test_no_answer_is_right_without_a_score_or_with_another_status(
    attributes: dict[str, Any], serve: Serve, tmp_path: Path
) -> None:
    found = gate(serve(**attributes), tmp_path)
    assert found.total.failures == found.total.requests > 0


@pytest.mark.slow("runs the load test for real")
def test_objectives_of_what_is_not_served_are_left_out_unless_their_file_is_named(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve()
    text = "[objectives.dga-lstm]\nmax_failure_ratio = 1\n[objectives.minilm-l6]\np99_ms = 60000\n"
    (tmp_path / "headrace.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    command = ["loadtest", "--url", url, "--users", "2", "--duration", "1"]
    found, strict = (
        CliRunner().invoke(app, [*command, *more]) for more in ((), ("--config", "headrace.toml"))
    )
    left_out = f"left out minilm-l6: it has objectives, but is not served at {url}"
    missed = "missed: minilm-l6: expected requests, found none"
    assert (found.exit_code, strict.exit_code) == (0, 1)
    assert left_out in found.output
    assert missed not in found.output
    assert left_out in strict.output
    assert missed in strict.output


@pytest.mark.slow("runs the load test for real")
def test_a_served_model_with_objectives_that_cannot_be_asked_is_missed(
    serve: Serve, tmp_path: Path
) -> None:
    found = gate(
        serve(), tmp_path, {"dga-lstm": Objectives(max_failure_ratio=1), "mail-spam": EASY}
    )
    assert found.missed == ("mail-spam: expected requests, found none",)


@pytest.mark.slow("runs the load test for real")
def test_nothing_that_can_be_asked_is_said_with_the_reason(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(
        StartFailed, match=r"left out mail-spam: not ready \(503, it is being loaded\)"
    ):
        gate(serve(models=("mail-spam",)), tmp_path)
    with pytest.raises(StartFailed, match="left out odd: cannot make inputs from its metadata"):
        gate(serve(models=("odd",)), tmp_path)
    with pytest.raises(StartFailed, match="expected a model that this key may use"):
        gate(serve(models=()), tmp_path)


def test_a_server_that_wants_a_key_is_said(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve(status=401)
    monkeypatch.delenv("HEADRACE_KEY", raising=False)
    with pytest.raises(StartFailed, match="expected a key, found none; set HEADRACE_KEY"):
        gate(url, tmp_path)
    monkeypatch.setenv("HEADRACE_KEY", "hr_wrong")
    with pytest.raises(
        StartFailed, match="the key in HEADRACE_KEY is not accepted; set another key"
    ):
        gate(url, tmp_path)


def test_a_server_that_is_no_headrace_is_said(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="expected headrace's list of models, found 404"):
        gate(serve(status=404), tmp_path)


def test_a_server_without_tls_is_said(serve: Serve, tmp_path: Path) -> None:
    url = serve()
    with pytest.raises(StartFailed, match=f"expected TLS, found none; try {url}"):
        gate(url.replace("http", "https"), tmp_path)


def by_itself(serve_url: str, locustfile: Path, folder: Path, *more: str) -> dict[str, Any]:
    """The record of Locust's own command."""
    record = folder / "times.json"
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(locustfile),
        "--host",
        serve_url,
        "--headless",
        "--users",
        "1",
    ]
    subprocess.run(
        [*command, "--record", str(record), *more],
        check=True,
        cwd=folder,
        timeout=120,
        capture_output=True,
    )
    found: dict[str, Any] = json.loads(record.read_bytes())
    return found


@pytest.mark.parametrize("length", [("--seconds", "1"), ("--run-time", "1s")])
@pytest.mark.slow("runs the load test for real")
def test_a_run_is_as_long_as_was_asked_however_long_its_imports_take(
    length: tuple[str, str], serve: Serve, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "from time import process_time\n"
        "end_s = process_time() + 1.5\n"
        "while process_time() < end_s:\n"
        "    pass\n"
        "from headrace.loadtest.locustfile import Caller\n",
        encoding="utf-8",
    )
    found = by_itself(serve(), slow, tmp_path, "--exit-code-on-error", "0", *length)
    assert found["ran_s"] > 0.9
    assert found["models"]["dga-lstm"]["times_ms"]


@pytest.mark.slow("runs the load test for real")
def test_a_request_without_an_answer_at_the_end_is_a_failure(serve: Serve, tmp_path: Path) -> None:
    end = threading.Event()
    try:
        users = ROOT / "loadtests" / "locustfile.py"
        found = by_itself(
            serve(hangs=end), users, tmp_path, "--seconds", "0.5", "--stop-timeout", "1"
        )
    finally:
        end.set()
    assert found["models"]["dga-lstm"]["failures"] == {"no answer before the end": 1}
    assert len(found["models"]["dga-lstm"]["times_ms"]) == 1


@pytest.mark.slow("runs the load test for real")
def test_a_model_of_ones_own_is_asked_anywhere_and_its_answers_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with in_process_platform(tmp_path) as running:
        url = f"http://127.0.0.1:{running.port}"
        found = gate(url, tmp_path, {"doubler": EASY}, needs_all=True)
        made_up = gate(url, elsewhere, {"doubler": EASY}, needs_all=True)
    assert (found.missed, found.notes) == ((), ())
    assert [row.model for row in found.rows] == ["doubler"]
    assert made_up.ok
    assert [note.partition(",")[0] for note in made_up.notes] == ["made up inputs for doubler"]


class Wrong:
    """A backend that answers as `wrong` makes it, which is set once the model has proved itself."""

    device = "cpu"
    lanes = 1

    def __init__(self, version: ModelVersion, name: str) -> None:
        self._real = backends.load(version, name)
        self.before: np.ndarray = np.zeros((1, 4), np.float32)
        self.wrong: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        right = self._real.run(inputs)["y"]
        answer = self.wrong(right, self.before) if self.wrong else right
        self.before = right
        return {"y": answer}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda right, _: np.full_like(right, np.nan), id="NaN"),
        pytest.param(
            lambda right, before: np.resize(before, right.shape), id="the one before's answer"
        ),
    ],
)
@pytest.mark.slow("runs the load test for real")
def test_wrong_answers_of_a_model_that_is_up_miss_the_gate(
    wrong: Callable[[np.ndarray, np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    made: list[Wrong] = []

    def load(version: ModelVersion, name: str) -> Wrong:
        made.append(Wrong(version, name))
        return made[0]

    with in_process_platform(tmp_path, load) as running:
        made[0].wrong = wrong
        found = gate(f"http://127.0.0.1:{running.port}", tmp_path)
    assert len(found.missed) == 1
    assert found.missed[0].endswith("most often: wrong answer")


@pytest.mark.slow("runs the load test for real")
def test_a_certificate_of_ones_own_is_named_and_then_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"
    write_pair(*pair)
    with in_process_platform(tmp_path, tls=pair) as running:
        url = f"https://127.0.0.1:{running.port}"
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(
            StartFailed, match=r"its certificate is not trusted \(self-signed.*SSL_CERT_FILE"
        ):
            gate(url, tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
        found = gate(url, tmp_path)
        with pytest.raises(StartFailed, match="no server answers"):
            gate(url.replace("https", "http"), tmp_path)
    assert found.ok
    assert found.total.requests
