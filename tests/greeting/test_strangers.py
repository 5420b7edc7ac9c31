"""Strangers who do not greet as a gateway learn nothing, cost little, and are soon gone."""

import asyncio
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loadtests.support.virtual_time import VirtualTimeLoop
from tests.channel.replicas import TOKEN
from tests.channel.test_frames import frames_sent, stream_of
from tests.greeting.wires import NAME, Wire, as_bytes, replica

from headrace.channel.frames import Cancel, GetStatistics, Hello, Ping
from headrace.channel.greeting import Greeting
from headrace.channel.server import ChannelServer
from headrace.channel.strangers import GREET_S, MAX_GREETED, MAX_STRANGERS


async def fate(channel: ChannelServer, data: Sequence[bytes]) -> Wire:
    """The end of one who sent this, after all the time it may stay."""
    wire = Wire(channel)
    for part in data:
        wire.hear(part)
        await asyncio.sleep(0)
    await asyncio.sleep(GREET_S)
    return wire


words = st.binary(max_size=60) | st.lists(frames_sent, max_size=3).map(stream_of)


@settings(max_examples=150, deadline=None)
@given(st.lists(words, max_size=4))
def test_whatever_strangers_say_gets_no_answer_and_ends_in_time_and_gateways_beside_them_are_served(
    said: list[bytes],
) -> None:
    unheard: list[object] = []

    async def meet() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        channel = replica()
        wires = [await fate(channel, said) for _ in range(2)]
        assert [(wire.written, wire.is_cut) for wire in wires] == [(b"", True)] * 2
        assert await Wire(channel).is_served()
        assert (len(channel.peers), len(channel.strangers)) == (1, 0)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(meet())
    assert unheard == []


@pytest.mark.parametrize("part", [0, 1, 8, 20])
async def test_who_never_finishes_a_greeting_is_cut_off_after_five_seconds(part: int) -> None:
    channel = replica()
    wire = Wire(channel)
    wire.hear(as_bytes(Greeting(TOKEN, NAME).hello)[:part])
    await asyncio.sleep(GREET_S - 0.1)
    assert not wire.is_cut
    await asyncio.sleep(0.2)
    assert (wire.is_cut, len(channel.strangers)) == (True, 0)


async def test_who_has_greeted_stays() -> None:
    wire = Wire(replica())
    assert await wire.is_served()
    await asyncio.sleep(10 * GREET_S)
    assert not wire.is_cut


@pytest.mark.parametrize(
    ("header", "body"), [(1025, 0), (2, 1), (1 << 20, 0), (2**32 - 1, 2**32 - 1)]
)
async def test_a_strangers_large_frame_is_refused_by_its_prefix(header: int, body: int) -> None:
    wire = Wire(replica())
    wire.hear(struct.pack("<II", header, body))
    assert (wire.is_cut, wire.written) == (True, b"")


async def test_nothing_that_a_stranger_asks_for_is_done() -> None:
    channel = replica()
    gateway = Wire(channel)
    assert await gateway.is_served()
    for frame in (
        Ping(),
        Cancel(1),
        GetStatistics(1),
        Greeting("guessed", NAME).hello,
        Hello(b"", b""),
    ):
        stranger = Wire(channel)
        stranger.hear(as_bytes(frame))
        assert (stranger.is_cut, stranger.written) == (True, b"")
    assert not gateway.is_cut


async def test_a_refused_greeting_is_not_followed_by_another_of_the_same_write() -> None:
    channel = replica()
    wire = Wire(channel)
    wire.hear(as_bytes(Greeting("guessed", NAME).hello) + as_bytes(Greeting(TOKEN, NAME).hello))
    await asyncio.sleep(0)
    assert (wire.is_cut, wire.written, channel.peers) == (True, b"", set())


async def test_a_greeting_that_was_meant_for_another_replica_opens_nothing() -> None:
    wire = Wire(replica())
    wire.hear(as_bytes(Greeting(TOKEN, "/run/another.sock").hello))
    assert (wire.is_cut, wire.written) == (True, b"")


async def test_a_greeting_that_somebody_has_heard_opens_nothing_again() -> None:
    channel = replica()
    gateway, hello = Wire(channel), as_bytes(Greeting(TOKEN, NAME).hello)
    for is_open in (True, False):  # its gateway's channel still lives, and lives no more
        gateway.hear(hello)
        for _ in range(2):
            replayer = Wire(channel)
            replayer.hear(hello + as_bytes(Ping()))
            assert (replayer.is_cut, replayer.written) == (True, b"")
        assert len(channel.peers) == is_open
        gateway.abort()
        await asyncio.sleep(0)
        gateway = Wire(channel)
    assert await Wire(channel).is_served()


async def test_greetings_are_remembered_up_to_a_bound_and_strangers_take_none_of_it() -> None:
    channel = replica()
    first, *others = (Greeting(TOKEN, NAME).hello for _ in range(MAX_GREETED + 1))
    assert channel.strangers.answer_to(first)
    for hello in others[:-1]:
        assert channel.strangers.answer_to(hello)
        assert channel.strangers.answer_to(Hello(hello.nonce[::-1], hello.mac)) is None
    assert channel.strangers.answer_to(first) is None
    assert channel.strangers.answer_to(others[-1])
    assert channel.strangers.answer_to(others[0]) is None
    assert channel.strangers.answer_to(first), "the oldest is forgotten"


async def test_a_thousand_silent_strangers_keep_no_gateway_out() -> None:
    channel = replica()
    wires = [Wire(channel) for _ in range(1000)]
    assert await wires[900].is_served()
    assert len(channel.strangers) == MAX_STRANGERS - 1
    assert sum(not wire.is_cut for wire in wires) == MAX_STRANGERS
    assert await Wire(channel).is_served()


async def test_one_that_is_cut_off_before_its_connection_is_made_is_cut_off_then() -> None:
    channel = replica()
    early = channel.accept()
    for _ in range(MAX_STRANGERS):
        Wire(channel)
    late = Wire.__new__(Wire)
    late.stream, late.is_cut, late.written = early, False, b""
    early.connection_made(late)
    assert late.is_cut


async def test_a_replica_that_ends_leaves_no_stranger_connected() -> None:
    channel = replica()
    wires = [Wire(channel) for _ in range(3)]
    await channel.close()
    assert all(wire.is_cut for wire in wires)


async def test_a_gateways_second_greeting_ends_its_channel_and_harms_nobody() -> None:
    channel = replica()
    wire, other = Wire(channel), Wire(channel)
    assert await wire.is_served()
    assert await other.is_served()
    wire.hear(as_bytes(Greeting(TOKEN, NAME).hello))
    await asyncio.sleep(0)
    assert (wire.is_cut, other.is_cut, len(channel.peers)) == (True, False, 1)
