"""Client and server over real sockets, on one node and between nodes, without a model."""

import asyncio
import os
import random
import socket
import stat
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.channel.replicas import (
    TIMES,
    TOKEN,
    Running,
    ask,
    doubled,
    ready_client,
    request,
    running,
    until,
)

from headrace.channel import Address, Health, ReplicaClient, connect
from headrace.channel.encoding import Decoder, encode
from headrace.channel.frames import Cancel, GetStatistics, Hello, TakeOver, Welcome
from headrace.channel.greeting import Greeting, answer_to
from headrace.errors import (
    BadRequest,
    DeadlineExceeded,
    HeadraceError,
    InferenceFailed,
    NotReady,
    Overloaded,
    ReplicaLost,
    ShuttingDown,
    TooLarge,
)
from headrace.inference.request import Answer, Request, SequenceStep
from headrace.inference.sequences import SequenceKey, SequenceSnapshot
from headrace.inference.statistics import BatchStats, Duration, InferenceStats, Statistics
from headrace.inference.tensor import Array, Tensor, from_array

EITHER_WAY = pytest.mark.parametrize("node", ["here", "elsewhere"], ids=["unix", "tcp"])


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as replica:
        yield replica


@pytest.fixture
async def client(replica: Running) -> AsyncIterator[ReplicaClient]:
    async with ready_client(replica) as client:
        yield client


@EITHER_WAY
async def test_an_answer_comes_back_with_its_times(replica: Running, node: str) -> None:
    async with ready_client(replica, node) as client:
        answer = await client.send(request(21))
        assert (doubled(answer), answer.times, answer.tokens) == (42, TIMES, 4)


@EITHER_WAY
async def test_the_service_sees_the_request_that_was_asked(replica: Running, node: str) -> None:
    async with ready_client(replica, node) as client:
        asked = request(1, seconds=5)
        await client.send(asked)
    (seen,) = replica.service.requests
    assert (seen.request_id, list(seen.outputs), seen.inputs[0].shape) == (
        "request-1",
        ["y"],
        (1, 1),
    )
    assert seen.deadline_s == pytest.approx(asked.deadline_s, abs=0.5)


async def test_the_service_sees_which_sequence_a_request_is_a_step_of(
    replica: Running, client: ReplicaClient
) -> None:
    step = SequenceStep('"a"', starts=True, key_id="ann")
    asked = request(1)
    asked.sequence = step
    await client.send(asked)
    await client.send(request(2))
    assert [seen.sequence for seen in replica.service.requests] == [step, None]


@EITHER_WAY
async def test_large_tensors_cross(replica: Running, node: str) -> None:
    async with ready_client(replica, node) as client:
        answer = await client.send(request(3, rows=1 << 20))
        assert (len(answer.outputs[0].data), doubled(answer)) == (4 << 20, 6)


async def test_many_interleaved_requests_get_their_own_answers(
    replica: Running, client: ReplicaClient
) -> None:
    chance = random.Random(0)

    async def dawdle(_: Request) -> None:
        for _turn in range(chance.randrange(5)):
            await asyncio.sleep(0)

    replica.service.before = dawdle
    answers = await asyncio.gather(*(client.send(request(n, rows=1 + n % 7)) for n in range(300)))
    assert [doubled(answer) for answer in answers] == [2 * n for n in range(300)]
    assert client.outstanding == 0


@pytest.mark.parametrize(
    "kind", [BadRequest, TooLarge, Overloaded, ShuttingDown, DeadlineExceeded, InferenceFailed]
)
async def test_a_fault_comes_back_as_the_error_it_was(
    replica: Running, client: ReplicaClient, kind: type[HeadraceError]
) -> None:
    replica.service.failure = kind("the reason", 1.5)
    with pytest.raises(kind) as caught:
        await client.send(request(1))
    assert (type(caught.value), caught.value.message, caught.value.retry_after_s) == (
        kind,
        "the reason",
        1.5,
    )


async def test_an_error_not_of_ours_says_nothing_internal(
    replica: Running, client: ReplicaClient
) -> None:
    replica.service.failure = ZeroDivisionError("secret")
    with pytest.raises(InferenceFailed, match=r"^the model failed on this request$"):
        await client.send(request(1))
    replica.service.failure = None
    assert doubled(await client.send(request(1))) == 2


async def test_an_answer_too_large_for_a_frame_is_the_models_fault_not_the_callers(
    replica: Running, client: ReplicaClient
) -> None:
    class Huge:
        def __len__(self) -> int:
            return 81 << 20

    def inflate(_: Tensor) -> Tensor:
        return Tensor("y", "UINT8", (1,), Huge())  # type: ignore[arg-type] # only its length is looked at

    replica.service.double = inflate
    with pytest.raises(InferenceFailed):
        await client.send(request(1))


async def test_a_withdrawn_request_is_cancelled_in_the_service(
    replica: Running, client: ReplicaClient
) -> None:
    replica.service.gate.clear()
    asked = client.send(request(1))
    await until(lambda: len(replica.service.requests) == 1)
    asked.cancel()
    await until(lambda: replica.service.cancelled == ["request-1"])
    assert client.outstanding == 0


async def test_a_withdrawn_request_harms_no_other(replica: Running, client: ReplicaClient) -> None:
    replica.service.gate.clear()
    asked = [client.send(request(n)) for n in range(3)]
    await until(lambda: len(replica.service.requests) == 3)
    asked[1].cancel()
    replica.service.gate.set()
    assert [doubled(await asked[i]) for i in (0, 2)] == [0, 4]
    assert client.frame_stream.is_open


async def test_a_withdrawal_that_the_replica_does_not_read_fails_nothing(
    replica: Running, client: ReplicaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(*_: object) -> None:
        unsent.append("cancel")
        raise Overloaded("the replica does not read its channel", retry_after_s=1)

    unsent: list[str] = []
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    replica.service.gate.clear()
    asked = client.send(request(1))
    await until(lambda: len(replica.service.requests) == 1)
    with monkeypatch.context() as patch:
        patch.setattr(client.frame_stream, "send", send)
        asked.cancel()
        await until(lambda: bool(unsent))
    replica.service.gate.set()
    assert doubled(await client.send(request(2))) == 4
    assert (client.outstanding, failures) == (0, [])


async def test_an_answer_that_crosses_its_withdrawal_harms_nothing(
    replica: Running, client: ReplicaClient
) -> None:
    for n in range(50):
        crossing, other = client.send(request(n)), client.send(request(n))
        for _ in range(n % 5):
            await asyncio.sleep(0)
        crossing.cancel()
        assert doubled(await other) == 2 * n
    assert client.frame_stream.is_open


async def test_a_request_withdrawn_in_the_turn_it_was_sent_never_reaches_the_service(
    replica: Running, client: ReplicaClient
) -> None:
    client.send(request(1)).cancel()
    assert doubled(await client.send(request(2))) == 4
    await until(lambda: client.outstanding == 0)


async def test_the_deadline_fires_though_the_service_never_answers(
    replica: Running, client: ReplicaClient
) -> None:
    replica.service.gate.clear()
    with pytest.raises(DeadlineExceeded):
        await client.send(request(1, seconds=0.02))
    await until(lambda: replica.service.cancelled == ["request-1"])
    assert client.outstanding == 0


async def test_a_deadline_already_past_is_settled_too(client: ReplicaClient) -> None:
    with pytest.raises(DeadlineExceeded):
        await client.send(request(1, seconds=-1))


async def test_the_replicas_end_fails_everything_that_was_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as replica, ready_client(replica) as client:
        replica.service.gate.clear()
        asked = [client.send(request(n)) for n in range(3)]
        await until(lambda: len(replica.service.requests) == 3)
        for peer in replica.channel.peers:
            peer.frame_stream.abort()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ReplicaLost] * 3
        await asyncio.wait_for(client.lost.wait(), 1)
        assert not client.is_ready
        with pytest.raises(ReplicaLost):
            client.send(request(4))


async def test_the_gateways_end_cancels_all_that_it_asked(replica: Running) -> None:
    replica.service.gate.clear()
    async with ready_client(replica) as client:
        asked = [client.send(request(n)) for n in range(3)]
        await until(lambda: len(replica.service.requests) == 3)
    await until(lambda: len(replica.service.cancelled) == 3)
    assert [type(await failure(future)) for future in asked] == [ReplicaLost] * 3
    await until(lambda: not replica.channel.peers)


async def failure(asked: "asyncio.Future[Answer]") -> Exception | None:
    try:
        await asked
    except HeadraceError as error:
        return error
    return None


@EITHER_WAY
async def test_a_wrong_token_gets_no_welcome(replica: Running, node: str) -> None:
    with pytest.raises(NotReady):
        await replica.connect(node, token="guessed")
    assert not replica.channel.peers


async def test_nobody_there_is_not_ready(tmp_path: Path) -> None:
    async with running(tmp_path) as replica:
        address = replica.address
    with pytest.raises(NotReady):
        await Running(replica.channel, replica.service, address).connect("here")
    with pytest.raises(NotReady):
        await Running(replica.channel, replica.service, address).connect("elsewhere")


async def test_a_connection_given_up_while_it_is_made_is_closed(replica: Running) -> None:
    """A gateway drops a replica from its fleet while it connects to it: nothing may stay behind."""
    silent = socket.socket(socket.AF_INET)
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    silent.setblocking(False)
    mute = Running(replica.channel, replica.service, replica.address)
    mute.address = type(replica.address)("there", "", "127.0.0.1", silent.getsockname()[1])
    connecting = asyncio.create_task(mute.connect())
    loop = asyncio.get_running_loop()
    accepted, _ = await asyncio.wait_for(loop.sock_accept(silent), 1)
    await asyncio.wait_for(loop.sock_recv(accepted, 1000), 1)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    try:
        assert await asyncio.wait_for(loop.sock_recv(accepted, 1), 1) == b""
    finally:
        accepted.close()
        silent.close()


async def test_the_unix_socket_is_its_owners_alone_and_goes_with_the_replica(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as replica:
        assert stat.S_IMODE(os.stat(replica.address.unix).st_mode) == 0o600  # noqa: PTH116
    assert not Path(replica.address.unix).exists()


async def test_readiness_is_what_the_replica_says(replica: Running) -> None:
    replica.service.health_now = Health(is_ready=False, waiting_rows=0)
    client = await replica.connect()
    assert not client.is_ready
    assert doubled(await client.send(request(1))) == 2
    assert not client.is_ready
    client.close()


async def test_a_replica_that_goes_away_is_not_ready_but_answers_what_it_accepted(
    replica: Running, client: ReplicaClient
) -> None:
    replica.service.gate.clear()
    asked = client.send(request(1))
    await until(lambda: len(replica.service.requests) == 1)
    replica.channel.say_going_away()
    await until(lambda: not client.is_ready)
    replica.service.gate.set()
    assert doubled(await asked) == 2


async def test_what_was_sent_before_the_end_arrives(tmp_path: Path) -> None:
    async with running(tmp_path) as replica, ready_client(replica) as client:
        asked = client.send(request(1, rows=1 << 18))
        await until(lambda: len(replica.service.requests) == 1)
        await asyncio.sleep(0)
        await replica.channel.close()
        assert doubled(await asked) == 2


@EITHER_WAY
async def test_a_replica_tells_what_it_counted(replica: Running, node: str) -> None:
    told = Statistics(
        last_inference=1_700_000_000_000,
        inference_count=2**40,
        inference_stats=InferenceStats(success=Duration(3, 2**62)),
        batch_stats=tuple(BatchStats(batch_size=size) for size in range(1, 1025)),
    )
    replica.service.statistics_now = told
    async with ready_client(replica, node) as client:
        assert await client.statistics(5) == told


async def test_a_replica_that_tells_nothing_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "mute.sock")

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (hello, _), *_ = Decoder().feed(await reader.read(1000))
        assert isinstance(hello, Hello)
        answer = answer_to(hello, Welcome("tiny", "1"), TOKEN, path)
        assert answer is not None
        writer.writelines(bytes(part) for part in encode(answer))
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(welcome, path) as server:
        client = await connect(Address("here", path, "", 0), "here", TOKEN)
        with pytest.raises(DeadlineExceeded):
            await client.statistics(0.01)
        telling = asyncio.create_task(client.statistics(5))
        await asyncio.sleep(0)
        client.close()
        with pytest.raises(ReplicaLost):
            await telling
        with pytest.raises(ReplicaLost):
            await client.statistics(5)
        server.close()


async def test_statistics_asked_for_and_given_up_leave_the_channel_sound(
    replica: Running, client: ReplicaClient
) -> None:
    for _ in range(20):
        telling = asyncio.create_task(client.statistics(5))
        await asyncio.sleep(0)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    assert await client.statistics(5) == Statistics()
    assert doubled(await client.send(request(1))) == 2


async def test_a_stranger_is_told_nothing(replica: Running) -> None:
    reader, writer = await asyncio.open_unix_connection(replica.address.unix)
    writer.writelines(bytes(part) for part in encode(GetStatistics(1)))
    assert await reader.read(100) == b""
    writer.close()


async def welcomed(replica: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A gateway of our own making: a bare socket that said Hello."""
    reader, writer = await asyncio.open_unix_connection(replica.address.unix)
    writer.writelines(bytes(part) for part in encode(Greeting(TOKEN, replica.address.unix).hello))
    await asyncio.wait_for(reader.readexactly(8), 1)
    return reader, writer


async def at_end(reader: asyncio.StreamReader) -> bool:
    """True if the other end has hung up."""
    try:
        async with asyncio.timeout(1):
            while await reader.read(1 << 16):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, struct.pack("<II", 1, 0) + b"\xc1"]
)
async def test_garbage_cuts_its_sender_off_and_nobody_else(
    replica: Running, client: ReplicaClient, garbage: bytes
) -> None:
    reader, writer = await welcomed(replica)
    writer.write(garbage)
    assert await at_end(reader)
    writer.close()
    assert doubled(await client.send(request(1))) == 2


async def test_a_stranger_is_not_served(replica: Running) -> None:
    reader, writer = await asyncio.open_unix_connection(replica.address.unix)
    tensor = from_array("x", np.zeros((1, 1), np.float32))
    writer.write(ask(1, [tensor]))
    assert await at_end(reader)
    assert replica.service.requests == []
    writer.close()


async def test_a_stranger_cannot_make_the_replica_hold_a_large_frame(replica: Running) -> None:
    """Before its Hello a peer has no reason to send more than a token."""
    reader, writer = await asyncio.open_unix_connection(replica.address.unix)
    writer.write(struct.pack("<II", 100, 64 << 20) + bytes(1 << 20))
    assert await at_end(reader)
    writer.close()


async def test_a_frame_sent_and_cancelled_in_one_write_leaves_the_channel_sound(
    replica: Running,
) -> None:
    _, writer = await welcomed(replica)
    tensor = from_array("x", np.zeros((1, 1), np.float32))
    for number in range(20):
        writer.write(ask(number, [tensor]))
        writer.writelines(bytes(p) for p in encode(Cancel(number)))
    async with ready_client(replica) as client:
        assert doubled(await client.send(request(1))) == 2
    assert [r.request_id for r in replica.service.requests] == ["request-1"]
    writer.close()


async def test_a_request_cancelled_before_it_began_does_not_keep_the_replica_from_settling(
    replica: Running,
) -> None:
    """Its task ends without having run a line, so nothing inside of it can say that it ended."""
    _, writer = await welcomed(replica)
    tensor = from_array("x", np.zeros((1, 1), np.float32))
    writer.write(ask(1, [tensor]))
    writer.writelines(bytes(p) for p in encode(Cancel(1)))
    try:
        async with ready_client(replica) as client, asyncio.timeout(0.5):
            assert doubled(await client.send(request(1))) == 2
            await replica.channel.wait_answered()
    finally:
        writer.close()


class Deaf:
    """A gateway that asks for large answers and never reads one."""

    def __init__(self, replica: Running) -> None:
        self.replica = replica
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(replica.address.unix)
        self.socket.sendall(
            b"".join(map(bytes, encode(Greeting(TOKEN, replica.address.unix).hello)))
        )

    def _has_heard(self, count: int) -> bool:
        return len(self.replica.service.requests) == count

    async def ask(self, times: int) -> None:
        answer = from_array("y", np.zeros((16 << 20) // 4, np.float32))
        kept = self.replica.service.double
        self.replica.service.double = lambda _: answer
        tensor = from_array("x", np.zeros((1, 1), np.float32))
        for number in range(times):
            self.socket.sendall(ask(number, [tensor], seconds=1000))
            await until(partial(self._has_heard, number + 1))
        await asyncio.sleep(0)
        self.replica.service.double = kept


@pytest.fixture
async def deaf(replica: Running, client: ReplicaClient) -> AsyncIterator[Deaf]:
    deaf = Deaf(replica)
    yield deaf
    deaf.socket.close()


async def test_a_peer_that_never_reads_is_cut_off_and_nobody_else(
    replica: Running, client: ReplicaClient, deaf: Deaf, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answers must not pile up for ever, nor may one fail without anybody hearing of it."""
    unheard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    await deaf.ask(18)
    await until(lambda: len(replica.channel.peers) == 1)
    assert unheard == []
    assert caplog.records == []
    assert doubled(await client.send(request(1))) == 2


async def test_going_away_is_said_to_all_though_one_peer_never_reads(
    replica: Running, client: ReplicaClient, deaf: Deaf
) -> None:
    await deaf.ask(18)
    replica.channel.say_going_away()
    await until(lambda: not client.is_ready)


async def test_a_replica_ends_though_a_peer_never_reads(tmp_path: Path) -> None:
    async with running(tmp_path) as replica:
        deaf = Deaf(replica)
        await deaf.ask(2)
    try:
        await until(lambda: not replica.channel.peers)
    finally:
        deaf.socket.close()


@EITHER_WAY
async def test_sequences_are_offered_with_their_states_whatever_these_are(
    replica: Running, node: str
) -> None:
    state: dict[str, Array] = {
        "h": np.ones((1, 2), np.float32),
        "rest": np.arange(5, dtype=np.int16),
        "none": np.zeros((0, 3)),
    }
    snapshots = [SequenceSnapshot(SequenceKey("ann", f'"{n}"'), state) for n in range(64)]
    async with ready_client(replica, node) as client:
        assert await client.take_over(["h"], snapshots, 5) == {each.key for each in snapshots}
        replica.service.takes_over = False
        assert await client.take_over(["h"], snapshots, 5) == frozenset()
    assert (list(replica.service.state_names), len(replica.service.taken_over)) == (["h"], 64)
    for each, seen in zip(snapshots, replica.service.taken_over, strict=True):
        assert each.key == seen.key
        for name, array in each.state.items():
            np.testing.assert_array_equal(seen.state[name], array, strict=True)


async def test_an_offer_that_is_not_answered_ends_in_time_or_with_the_replica(
    replica: Running,
) -> None:
    async with ready_client(replica) as client:
        with pytest.raises(DeadlineExceeded):
            await client.take_over([], [], 0)
        offer = asyncio.create_task(client.take_over([], [], 5))
        await asyncio.sleep(0)
        client.frame_stream.abort()
        with pytest.raises(ReplicaLost):
            await offer


async def test_an_offer_of_a_stranger_is_cut_off(replica: Running) -> None:
    reader, writer = await asyncio.open_unix_connection(replica.address.unix)
    writer.writelines(
        bytes(part) for part in encode(TakeOver(1, (), ((SequenceKey("", "1"), ()),)))
    )
    assert await reader.read() == b""
    writer.close()
    assert replica.service.taken_over == []


async def test_every_gateway_is_told_of_moved_sequences_before_what_is_said_later(
    replica: Running,
) -> None:
    """Also one that comes later: it would not know where to go."""
    told: list[str] = []
    early = await connect(
        replica.address,
        "here",
        TOKEN,
        lambda successor, keys: told.append(f"{successor} has {len(keys)}"),
    )
    replica.channel.say_going_away()
    replica.channel.say_moved("two", [SequenceKey("ann", "1")])
    late = await connect(
        replica.address,
        "here",
        TOKEN,
        lambda successor, keys: told.append(f"{successor} has {len(keys)}"),
    )
    for client in (early, late):
        await client.send(request(1))
        assert (client.is_ready, client.takes_steps) == (False, client.known.is_set())
        client.close()
    assert told == ["two has 1"] * 2
