"""The blame for a replica's end: all that was running, or a suspect that ran alone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.channel.replicas import (
    TOKEN,
    Running,
    ask,
    doubled,
    ready_client,
    request,
    running,
    until,
)

from headrace.channel import ReplicaClient, connect
from headrace.channel.encoding import Decoder, encode
from headrace.channel.frames import Frame, Started
from headrace.channel.greeting import Greeting
from headrace.errors import Blame, DeadlineExceeded, ReplicaLost, RunStopped
from headrace.inference.request import Answer, Request


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as replica:
        yield replica


@pytest.fixture
async def client(replica: Running) -> AsyncIterator[ReplicaClient]:
    async with ready_client(replica) as client:
        yield client


def suspect(number: float) -> Request:
    asked = request(number)
    asked.runs_alone = True
    return asked


def lose(replica: Running) -> None:
    for peer in list(replica.channel.peers):
        peer.frame_stream.abort()


async def blame(asked: "asyncio.Future[Answer]") -> str:
    with pytest.raises(ReplicaLost) as caught:
        await asked
    return caught.value.blame


async def test_a_suspect_is_told_apart_and_can_say_that_it_starts(
    replica: Running, client: ReplicaClient
) -> None:
    await client.send(request(1))
    await client.send(suspect(2))
    assert [(r.runs_alone, r.started is not None) for r in replica.service.requests] == [
        (False, False),
        (True, True),
    ]


async def test_what_was_under_way_may_have_ended_its_replica_but_no_suspect_that_did_not_start(
    replica: Running, client: ReplicaClient
) -> None:
    replica.service.gate.clear()
    asked = [client.send(request(1)), client.send(request(2)), client.send(suspect(3))]
    await until(lambda: len(replica.service.requests) == 3)
    lose(replica)
    assert [await blame(one) for one in asked] == ["possible", "possible", "none"]


async def test_a_suspect_that_ran_alone_did_it_and_nothing_beside_it(
    replica: Running, client: ReplicaClient
) -> None:
    async def start(seen: Request) -> None:
        if seen.started and seen.request_id == "request-3":
            await seen.started()
            lose(replica)

    replica.service.before = start
    replica.service.gate.clear()
    asked = [client.send(request(1)), client.send(suspect(2)), client.send(suspect(3))]
    assert [await blame(one) for one in asked] == ["none", "none", "certain"]


async def test_a_suspect_that_was_answered_is_blamed_for_nothing_that_comes_later(
    replica: Running, client: ReplicaClient
) -> None:
    async def start(seen: Request) -> None:
        if seen.started:
            await seen.started()

    replica.service.before = start
    assert doubled(await client.send(suspect(1))) == 2
    replica.service.gate.clear()
    asked = client.send(request(2))
    await until(lambda: len(replica.service.requests) == 2)
    lose(replica)
    assert await blame(asked) == "possible"


async def test_nothing_is_blamed_that_was_not_sent(replica: Running, client: ReplicaClient) -> None:
    lose(replica)
    await client.lost.wait()
    with pytest.raises(ReplicaLost) as caught:
        client.send(request(1))
    assert caught.value.blame == "none"


async def test_a_suspects_start_is_in_the_socket_before_it_runs(replica: Running) -> None:
    """Otherwise a model that ends the process in that very tick would take the report with it."""
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(replica.address.unix)
    caller.setblocking(False)
    seen: list[Frame] = []

    async def start(asked: Request) -> None:
        assert asked.started
        await asked.started()
        seen.extend(frame for frame, _ in decoder.feed(caller.recv(1000)))

    decoder = Decoder()
    replica.service.before = start
    tensors = request(1).inputs
    hello = encode(Greeting(TOKEN, replica.address.unix).hello)
    caller.sendall(b"".join(map(bytes, hello)) + ask(1, tensors, runs_alone=True))
    await until(lambda: bool(seen))
    caller.close()
    assert seen[-1] == Started(1)


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["left", "expired"])
async def test_a_stopped_run_is_told_of_though_its_caller_waits_no_more(
    replica: Running, *, is_cancelled: bool
) -> None:
    told: list[tuple[str, Blame]] = []
    client = await connect(
        replica.address, "here", TOKEN, on_blame=lambda r, b: told.append((r.request_id, b))
    )
    replica.service.gate.clear()
    asked = client.send(request(1, seconds=5.0 if is_cancelled else 0.05))
    await until(lambda: len(replica.service.requests) == 1)
    if is_cancelled:
        asked.cancel()
    else:
        with pytest.raises(DeadlineExceeded):
            await asked
    await until(lambda: replica.service.cancelled == ["request-1"])
    (seen,) = replica.service.requests
    assert seen.stopped
    seen.stopped(seen, RunStopped("stopped", 1, "certain"))
    await until(lambda: bool(told))
    assert told == [("request-1", "certain")]
    client.close()


async def test_a_stopped_run_is_no_lost_replica_and_says_whom_it_blames(
    replica: Running, client: ReplicaClient
) -> None:
    replica.service.failure = RunStopped("stopped", 1, "possible")
    with pytest.raises(RunStopped) as caught:
        await client.send(request(1))
    assert (caught.value.blame, client.is_ready) == ("possible", True)


async def test_a_lost_replica_may_have_been_ended_by_what_nobody_waits_for_any_more(
    replica: Running,
) -> None:
    told: list[tuple[str, Blame]] = []
    client = await connect(
        replica.address, "here", TOKEN, on_blame=lambda r, b: told.append((r.request_id, b))
    )
    replica.service.gate.clear()
    asked = client.send(request(1))
    await until(lambda: len(replica.service.requests) == 1)
    asked.cancel()
    await until(lambda: replica.service.cancelled == ["request-1"])
    lose(replica)
    await client.lost.wait()
    assert told == [("request-1", "possible")]
