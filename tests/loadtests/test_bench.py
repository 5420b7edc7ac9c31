"""The benchmark's reading of wrk, and its table."""

import pytest
from loadtests.bench import (
    BASELINE,
    HEADRACE,
    LIMIT,
    BenchFailed,
    Figures,
    Measured,
    merge,
    read_wrk,
    table_rows,
)

WRK = """\
Running 3s test @ http://127.0.0.1:8000/v2/models/cnn/infer
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     8.11ms    1.02ms  21.40ms   88.01%%
    Req/Sec     7.91k   312.00     8.40k    70.00%%
  24000 requests in 3.00s, 6.43MB read
Requests/sec:   8000.00
Transfer/sec:      2.14MB
figures {"requests": %d, "duration_us": 3000000, "p50_us": 7900, "p99_us": 12500, "refused": %d, \
"broken": %d}
"""


def measured(system: str, connections: int | None, rate: float, p99_s: float = 0.002) -> Measured:
    return Measured(system, "JSON", connections, Figures(rate, 0.001, p99_s))


def test_the_figures_are_found_behind_what_wrk_prints_itself() -> None:
    assert read_wrk(WRK % (24000, 0, 0)) == Figures(8000.0, 0.0079, 0.0125)


@pytest.mark.parametrize(("refused", "broken"), [(3, 0), (0, 2)])
def test_a_run_with_failed_requests_is_no_measurement(refused: int, broken: int) -> None:
    with pytest.raises(BenchFailed, match=f"{refused} were refused, {broken} broken"):
        read_wrk(WRK % (24000, refused, broken))


def test_a_run_without_an_answer_is_no_measurement() -> None:
    with pytest.raises(BenchFailed, match="no request was answered"):
        read_wrk(WRK % (0, 0, 0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("unable to connect to 127.0.0.1:1", "unable to connect"), ("", "no output")],
)
def test_what_wrk_says_instead_of_figures_is_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BenchFailed, match=reason):
        read_wrk(text)


def test_the_ratio_is_to_the_baseline_at_as_many_connections() -> None:
    rows = table_rows(
        [
            measured(HEADRACE, 1, 1000),
            measured(HEADRACE, 64, 9000),
            measured(BASELINE, 1, 250),
            measured(BASELINE, 64, 600),
        ]
    )
    assert [row[-1] for row in rows] == ["4.0x", "15.0x", "1.0x", "1.0x"]


def test_there_is_no_ratio_without_a_baseline() -> None:
    assert table_rows([measured(HEADRACE, 1, 1000)])[0][-1] == "-"


def test_the_model_alone_has_neither_connections_nor_a_ratio() -> None:
    limit = measured(LIMIT, None, 40000)
    assert table_rows([measured(BASELINE, 1, 250), limit])[1] == (
        LIMIT,
        "JSON",
        "-",
        "40,000",
        "1.00 ms",
        "2.00 ms",
        "-",
    )


def test_two_runs_give_their_mean_half_their_difference_and_the_worse_latency() -> None:
    (row,) = merge(
        [measured(HEADRACE, 1, 900, p99_s=0.004)], [measured(HEADRACE, 1, 1100, p99_s=0.003)]
    )
    assert row.figures == Figures(1000.0, 0.001, 0.004)
    assert table_rows([row])[0][3] == "1,000 ± 10%"
