"""Triton's perf_analyzer drives every model of the zoo with its default data, which is random."""

from collections.abc import Sequence

import pytest
from tests.platform.perf_analyzer import analyze, find_command
from tests.platform.running import Platform

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

# What it must be told besides: the length of an axis that may have any, and of texts if its own is
# too long.
SIZES = {
    "efficientnet-lite0": (),
    "silero-vad": ("--shape", "input:576"),
    "minilm-l6": (),
    "mail-spam": (),
    "dga-lstm": ("--string-length", "63"),
}
AT_A_TIME = 4
LOADS = {
    "closed loop": ("--concurrency-range", str(AT_A_TIME)),
    "request rate": ("--request-rate-range", "10"),
}
JSON = ("--input-tensor-format", "json", "--output-tensor-format", "json")
STAGES = {"overhead", "queue", "compute input", "compute infer", "compute output"}
REQUESTS = 40
# It reads the server's counters while its last requests are under way, and each is cut to a
# microsecond.
EDGE, ROUNDING_US = 2 * AT_A_TIME, len(STAGES)


@pytest.fixture(scope="session")
def analyzer() -> Sequence[str]:
    """The command that starts it; found once, before a platform starts."""
    return find_command()


def drive(
    analyzer: Sequence[str], served: Platform, model: str, *options: str, rows: int = 1
) -> None:
    """Both sides' figures are there, and belong together."""
    report, said = analyze(
        analyzer, served.port, model, *SIZES[model], "--request-count", str(REQUESTS), *options
    )
    assert report, said
    assert report.requests >= REQUESTS
    assert 0 < report.p50_us <= report.p99_us
    assert abs(report.requests_run - report.requests) <= EDGE, said
    assert report.rows_run == rows * report.requests_run
    assert 0 < report.batches_run <= report.rows_run
    assert report.stages.keys() == STAGES
    assert report.stages["compute infer"] > 0
    assert abs(sum(report.stages.values()) - report.server_us) <= ROUNDING_US, said


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("model", SIZES)
def test_every_model_answers_random_data(
    analyzer: Sequence[str], served: Platform, model: str, load: str
) -> None:
    drive(analyzer, served, model, *LOADS[load])


@pytest.mark.parametrize("model", ["silero-vad", "dga-lstm"])
def test_so_it_does_in_json(analyzer: Sequence[str], served: Platform, model: str) -> None:
    drive(analyzer, served, model, *LOADS["closed loop"], *JSON)


@pytest.mark.parametrize("model", ["efficientnet-lite0", "mail-spam"])
def test_several_rows_a_request_are_counted_as_rows(
    analyzer: Sequence[str], served: Platform, model: str
) -> None:
    drive(analyzer, served, model, *LOADS["closed loop"], "-b", "3", rows=3)


def test_a_text_longer_than_the_model_reads_is_refused_in_a_sentence(
    analyzer: Sequence[str], served: Platform
) -> None:
    """Its own length, for which the model was not trained: the report says what to do."""
    report, said = analyze(
        analyzer, served.port, "dga-lstm", *LOADS["closed loop"], "--request-count", "4"
    )
    assert report is None
    assert "text too long (limit 82 characters): found 128" in said
