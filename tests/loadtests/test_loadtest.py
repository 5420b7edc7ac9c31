"""The release gate: reading Locust's figures, and deciding."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from headrace.config import Objectives
from headrace.errors import StartFailed
from headrace.loadtest import LOCUSTFILE, Outcome, Row, missed, read_rows, run, show

STATS = Path(__file__).with_name("stats.json")
ROOT = Path(__file__).parents[2]
FAST = Row("dga-lstm", 400, 0, 20.0, 5.0, 12.0, 31.0)
FAILING = Row("efficientnet-lite0", 200, 10, 9.5, 60.0, 120.0, 170.0)


def test_locusts_figures_become_rows_and_a_total() -> None:
    assert read_rows(STATS) == ((FAST, FAILING), Row("all", 600, 10, 29.5, 5.0, 120.0, 120.0))


def test_a_run_without_requests_is_a_total_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "stats.json").write_text("[]", encoding="utf-8")
    assert read_rows(tmp_path / "stats.json") == ((), Row("all", 0, 0, 0.0, 0.0, 0.0, 0.0))


def test_the_rate_counts_no_failures() -> None:
    rows, _ = read_rows(STATS)
    assert rows[1].rate == (200 - 10) / 20


def test_objectives_that_are_met_give_no_sentence() -> None:
    objectives = {"dga-lstm": Objectives(p99_ms=31, min_rate=20)}
    assert missed([FAST], objectives) == []


@pytest.mark.parametrize(
    ("objectives", "sentence"),
    [
        (Objectives(p99_ms=30), "dga-lstm: expected a p99 of at most 30 ms, found 31 ms"),
        (Objectives(min_rate=25), "dga-lstm: expected at least 25 answers/s, found 20.0"),
    ],
)
def test_each_missed_objective_is_one_sentence(objectives: Objectives, sentence: str) -> None:
    assert missed([FAST], {"dga-lstm": objectives}) == [sentence]


def test_a_model_without_objectives_must_show_no_failure() -> None:
    found = missed([FAST, FAILING], {})
    assert found == [
        "efficientnet-lite0: expected failures to be at most 0.00% of the requests, found 10 of 200",
    ]


def test_failures_may_be_allowed() -> None:
    assert missed([FAILING], {"efficientnet-lite0": Objectives(max_failure_ratio=0.05)}) == []


def test_a_model_with_objectives_that_nobody_asked_is_missed() -> None:
    objectives = {"mail-spam": Objectives(p99_ms=100)}
    expected = ["mail-spam: expected requests, as it has objectives, found none"]
    assert missed([FAST], objectives) == expected
    assert missed([FAST, Row("mail-spam", 0, 0, 0.0, 0.0, 0.0, 0.0)], objectives) == expected


def test_a_run_without_any_request_is_missed() -> None:
    assert missed([], {}) == ["expected requests, found none"]


def outcome(*sentences: str) -> Outcome:
    total = Row("all", 600, 10, 29.5, 7.0, 90.0, 160.0)
    notes = ("left out minilm-l6: not served",)
    return Outcome((FAST, FAILING), total, sentences, notes, Path("r.html"), Path("r.json"))


def test_an_outcome_is_good_when_nothing_was_missed() -> None:
    assert outcome().ok
    assert not outcome("too slow").ok


def test_the_table_has_every_model_the_total_and_what_was_missed() -> None:
    printed = StringIO()
    show(outcome("too slow"), Console(width=120, file=printed))
    for expected in ("dga-lstm", "170", "all", "29.5", "missed: too slow", "left out minilm-l6", "report: r.html"):
        assert expected in printed.getvalue()


def test_a_server_that_does_not_answer_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(StartFailed, match=f"no server answers at {url}; start one with: headrace serve"):
            run(url, 1, 1, {}, tmp_path / "reports", ROOT / LOCUSTFILE)
    assert not (tmp_path / "reports").exists()


def test_an_address_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="url: expected http://host:port, found localhost:8000"):
        run("localhost:8000", 1, 1, {}, tmp_path, ROOT / LOCUSTFILE)


def test_a_missing_locustfile_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"no locustfile at .*nothing\.py; run this in the project's folder"):
        run("http://127.0.0.1:1", 1, 1, {}, tmp_path, tmp_path / "nothing.py")


class Server(BaseHTTPRequestHandler):
    """Serves dga-lstm alone: ".org" is benign, everything else generated."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200 if "dga-lstm" in self.path or self.path.endswith("/live") else 404, {})

    def do_POST(self) -> None:
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        self._answer(200, {"results": [[{"label": "benign" if text.endswith(".org") else "generated"}]]})

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_run_counts_wrong_answers_and_says_what_it_left_out(url: str, tmp_path: Path) -> None:
    (tmp_path / "loadtest_stats.json").write_text("an earlier run's", encoding="utf-8")
    found = run(url, 8, 2, {}, tmp_path, ROOT / LOCUSTFILE, Console(file=StringIO()))
    assert [row.model for row in found.rows] == ["dga-lstm"]
    assert found.total.requests >= 16
    assert 0 < found.total.failures < found.total.requests
    assert len(found.missed) == 1
    assert "expected failures to be at most" in found.missed[0]
    assert [note.split(":")[0] for note in found.notes] == [
        f"left out {model}" for model in ("efficientnet-lite0", "silero-vad", "minilm-l6", "mail-spam")
    ]
    assert "<html" in found.report.read_text(encoding="utf-8")[:200]
    assert json.loads(found.summary.read_bytes())["ok"] is False
