"""The open-loop driver: schedules, ledger and punctuality, on a virtual clock."""

import asyncio
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from loadtests.inputs import CheckedRequest
from loadtests.open_loop import (
    Figures,
    Ledger,
    Sent,
    Verdict,
    drive,
    figures,
    fixed_schedule,
    poisson_schedule,
    verdict_of,
)
from loadtests.support import virtual_time
from loadtests.support.http_client import BROKEN, GIVEN_UP, HttpClient, Reply

SHOT = CheckedRequest("m", "/v2/models/m/infer", {}, b"{}", lambda answer: answer == b"right")
RIGHT = Reply(200, b"right")
DEADLINE_S = 1.0


def sent(reply: Reply, latency_s: float = 0.5, due_s: float = 2.0, lateness_s: float = 0.0) -> Sent:
    return Sent(SHOT, reply, due_s, due_s + lateness_s, due_s + latency_s)


@pytest.mark.parametrize(
    ("reply", "latency_s", "verdict"),
    [
        (RIGHT, 0.5, "right"),
        (RIGHT, 1.0, "right"),
        (RIGHT, 1.5, "late"),
        (Reply(200, b"another's"), 0.5, "wrong"),
        (Reply(200, b"another's"), 1.5, "wrong"),
        (Reply(429), 0.01, "refused"),
        (Reply(503), 0.01, "refused"),
        (Reply(504), 1.0, "late"),
        (Reply(GIVEN_UP), 2.0, "late"),
        (Reply(500), 0.5, "failed"),
        (Reply(400), 0.5, "failed"),
        (Reply(BROKEN), 0.5, "failed"),
    ],
)
def test_every_reply_has_one_verdict(reply: Reply, latency_s: float, verdict: Verdict) -> None:
    assert verdict_of(sent(reply, latency_s), DEADLINE_S) == verdict


def test_an_answer_that_cannot_be_read_is_wrong() -> None:
    request = replace(SHOT, is_right=lambda answer: answer[1000] == 0)
    assert verdict_of(sent(RIGHT)._replace(request=request), DEADLINE_S) == "wrong"


def test_refusals_and_failures_do_not_make_the_latency_look_good() -> None:
    ledger = Ledger()
    for reply in (RIGHT, Reply(429), Reply(BROKEN)):
        ledger.enter(sent(reply), DEADLINE_S)
    assert ledger.latencies_s == [0.5]
    assert ledger.counts == {"right": 1, "refused": 1, "failed": 1}


def test_figures_count_everything_once_and_rates_until_the_last_answer() -> None:
    ledger = Ledger()
    for latency_s in np.linspace(0.01, 1.0, 100):
        ledger.enter(sent(RIGHT, float(latency_s), due_s=3.0, lateness_s=0.001), DEADLINE_S)
    ledger.enter(sent(Reply(503)), DEADLINE_S)
    found = figures(ledger, seconds=2.0)
    assert found.scheduled == sum(found.counts.values()) == 101
    assert set(found.counts) == set(get_args(Verdict))
    assert found.rate == found.goodput == 25.0
    assert found.percentiles_s == pytest.approx((0.5, 0.95, 0.99))
    assert found.driver_p99_s == pytest.approx(0.001)


@pytest.mark.parametrize(("lateness_s", "is_late"), [(0.001, False), (0.02, True)])
def test_the_driver_says_when_it_was_late_itself(lateness_s: float, is_late: bool) -> None:
    assert Figures(1, {}, 1.0, 1.0, (0.1, 0.1, 0.1), lateness_s).is_driver_late is is_late


def test_a_run_without_answers_has_no_percentiles() -> None:
    assert np.isnan(figures(Ledger(), 1.0).p99_s)


def test_a_fixed_schedule_is_even() -> None:
    assert fixed_schedule(200, 0.02) == pytest.approx([0, 0.005, 0.01, 0.015])


def test_a_poisson_schedule_has_the_rate_and_the_spread_of_independent_callers() -> None:
    gaps = np.diff(poisson_schedule(100, 100))
    assert gaps.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps.std() == pytest.approx(0.01, rel=0.05)
    assert poisson_schedule(100, 1) == poisson_schedule(100, 1)


def test_requests_leave_on_time_however_slow_the_server_is() -> None:
    async def run() -> tuple[list[float], Ledger]:
        clock = asyncio.get_running_loop().time
        left_s: list[float] = []

        async def send(_: CheckedRequest) -> Reply:
            left_s.append(clock())
            await asyncio.sleep(10)
            return RIGHT

        return left_s, await drive(send, [SHOT] * 5, [0, 1, 2, 3, 4], DEADLINE_S, clock)

    left_s, ledger = virtual_time.run(run())
    assert np.diff(left_s) == pytest.approx([1, 1, 1, 1])
    assert ledger.counts == {"late": 5}
    assert ledger.latencies_s == pytest.approx([10] * 5)
    assert ledger.lateness_s == pytest.approx([0] * 5)


def test_latency_counts_from_when_the_request_was_due() -> None:
    async def run() -> Ledger:
        loop = asyncio.get_running_loop()
        # A clock on which the driver wakes up a second late.
        late = iter([0.0, *[3.1] * 10])

        async def send(_: CheckedRequest) -> Reply:
            return RIGHT

        assert loop.time() == 0
        return await drive(send, [SHOT], [2.0], DEADLINE_S, lambda: next(late))

    ledger = virtual_time.run(run())
    assert ledger.lateness_s == pytest.approx([1.0])
    assert ledger.latencies_s == pytest.approx([1.0])


class Server(asyncio.Protocol):
    """Answers by path: /right, /closing (then closes), /broken (closes without a word), /silent."""

    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Server.connections += 1
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        path = data.split()[1].decode()
        if path == "/broken":
            self._transport.close()
        elif path != "/silent":
            close = b"Connection: close\r\n" if path == "/closing" else b""
            self._transport.write(
                b"HTTP/1.1 200 OK\r\n" + close + b"Content-Length: 5\r\n\r\nright"
            )
            if close:
                self._transport.close()


@pytest.mark.parametrize(
    ("paths", "replies", "connections"),
    [
        (["/right", "/right"], [RIGHT, RIGHT], 1),
        (["/closing", "/right"], [RIGHT, RIGHT], 2),
        (["/broken", "/right"], [Reply(BROKEN), RIGHT], 2),
        (["/silent", "/right"], [Reply(GIVEN_UP), RIGHT], 2),
    ],
)
async def test_the_client_keeps_connections_and_replaces_broken_ones(
    paths: list[str], replies: list[Reply], connections: int
) -> None:
    Server.connections = 0
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        HttpClient(f"http://127.0.0.1:{port}", DEADLINE_S, patience_s=0.05) as client,
    ):
        assert [await client.send(replace(SHOT, path=path)) for path in paths] == replies
    assert Server.connections == connections


async def test_a_server_that_is_not_there_is_a_broken_connection() -> None:
    async with HttpClient("http://127.0.0.1:1", DEADLINE_S, patience_s=1.0) as client:
        assert await client.send(SHOT) == Reply(BROKEN)
