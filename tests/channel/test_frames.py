import contextlib
import itertools
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.channel import frames
from headrace.channel.encoding import MAX_FRAME_BYTES, Decoder, encode
from headrace.channel.frames import (
    Ask,
    Cancel,
    Fault,
    Frame,
    GetStatistics,
    GoingAway,
    Hello,
    Ping,
    Pong,
    Reply,
    Started,
    StatisticsReply,
    Welcome,
)
from headrace.errors import BadRequest, TooLarge
from headrace.inference.request import SequenceStep, Times
from headrace.inference.statistics import BatchStats, Statistics
from headrace.inference.tensor import Tensor, from_array

Sent = tuple[Frame, list[Tensor]]


def trusting() -> Decoder:
    """One that takes whatever a peer that is known may send."""
    decoder = Decoder()
    decoder.trust()
    return decoder


small = st.integers(0, 2**32)
texts = st.text(max_size=12)
tensor_lists = st.lists(
    st.binary(max_size=40).map(lambda data: Tensor("x", "UINT8", (len(data),), data)), max_size=3
)


def ask(number: int, tensors: Sequence[Tensor]) -> Sent:
    frame = Ask(
        id=number,
        budget_us=10,
        request_id="r",
        outputs=("y",),
        tensors=frames.metas(tensors),
    )
    return frame, list(tensors)


def step(number: int, name: str, key_id: str) -> Sent:
    sequence = SequenceStep(name, starts=True, key_id=key_id)
    return Ask(id=number, budget_us=10, request_id="r", outputs=(), sequence=sequence), []


def reply(number: int, tensors: Sequence[Tensor]) -> Sent:
    return Reply(number, Times(0.5, 0.25, 0.125, 2), 3, frames.metas(tensors), (0, number)), list(
        tensors
    )


def told(number: int, count: int) -> StatisticsReply:
    return StatisticsReply(
        number, Statistics(inference_count=count, batch_stats=(BatchStats(batch_size=count),))
    )


frames_sent: st.SearchStrategy[Sent] = st.one_of(
    st.builds(ask, small, tensor_lists),
    st.builds(step, small, texts, texts),
    st.builds(reply, small, tensor_lists),
    st.builds(Hello, st.binary(max_size=16), st.binary(max_size=32)).map(lambda frame: (frame, [])),
    st.builds(Welcome, texts, texts).map(lambda frame: (frame, [])),
    st.builds(Fault, small, texts, texts, st.none() | st.floats(0, 10)).map(
        lambda frame: (frame, [])
    ),
    st.builds(Cancel, small).map(lambda frame: (frame, [])),
    st.builds(Pong, st.booleans(), small).map(lambda frame: (frame, [])),
    st.builds(told, small, small).map(lambda frame: (frame, [])),
    st.sampled_from([(Ping(), []), (GoingAway(), []), (GetStatistics(7), []), (Started(8), [])]),
)


def stream_of(sent: Sequence[Sent]) -> bytes:
    return b"".join(bytes(part) for frame, tensors in sent for part in encode(frame, tensors))


def plain(
    received: Sequence[tuple[Frame, Sequence[Tensor]]],
) -> list[tuple[Frame, list[tuple[object, ...]]]]:
    return [
        (frame, [(t.name, t.datatype, t.shape, bytes(t.data)) for t in tensors])
        for frame, tensors in received
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(frames_sent, max_size=5), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_of_the_stream_gives_the_same_frames(sent: list[Sent], cuts: list[int]) -> None:
    stream = stream_of(sent)
    offsets = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder = trusting()
    received = [
        whole
        for start, end in itertools.pairwise(offsets)
        for whole in decoder.feed(stream[start:end])
    ]
    assert plain(received) == plain(sent)


def test_frames_that_come_byte_by_byte_are_whole() -> None:
    sent = [ask(1, [Tensor("x", "UINT8", (3,), b"abc")]), (Ping(), [])]
    decoder = trusting()
    received = [whole for byte in stream_of(sent) for whole in decoder.feed(bytes([byte]))]
    assert plain(received) == plain(sent)


@pytest.mark.parametrize("cut", [1, 40, 90])
def test_tensors_outlive_the_frames_that_follow(cut: int) -> None:
    first = stream_of([ask(1, [from_array("x", np.arange(16, dtype=np.float32))])])
    later = stream_of([ask(2, [from_array("x", np.full(16, -1, np.float32))])])
    decoder = trusting()
    received = [*decoder.feed(first[:cut]), *decoder.feed(first[cut:] + later[:50])]
    _, tensors = received[0]
    for _ in range(3):
        received += decoder.feed(later[50:] + later[:50])
    assert np.frombuffer(tensors[0].data, np.float32).tolist() == list(range(16))


def test_a_frame_too_large_is_not_sent() -> None:
    huge = Tensor("x", "UINT8", (MAX_FRAME_BYTES + 1,), bytes(MAX_FRAME_BYTES + 1))
    with pytest.raises(
        TooLarge, match=f"at most {MAX_FRAME_BYTES} bytes, found {MAX_FRAME_BYTES + 1}"
    ):
        encode(*ask(1, [huge]))


def test_until_a_peer_is_known_a_frame_is_as_long_as_a_greeting_at_most() -> None:
    longest, longer = Welcome("m" * 1016, ""), Welcome("m" * 1017, "")
    assert list(Decoder().feed(stream_of([(longest, [])]))) == [(longest, [])]
    with pytest.raises(
        BadRequest, match="at most 1024 bytes of header and 0 of body, found 1025 and 0"
    ):
        list(Decoder().feed(stream_of([(longer, [])])))
    assert list(trusting().feed(stream_of([(longer, [])]))) == [(longer, [])]


@pytest.mark.parametrize(
    ("header", "body"), [(2**31, 0), (2, MAX_FRAME_BYTES + 1), (2**32 - 1, 2**32 - 1)]
)
def test_a_frame_too_large_is_refused_by_its_prefix_alone(header: int, body: int) -> None:
    with pytest.raises(BadRequest, match="expected at most"):
        list(trusting().feed(struct.pack("<II", header, body)))


@pytest.mark.parametrize(
    "stream",
    [
        struct.pack("<II", 1, 0) + b"\xc1",
        struct.pack("<II", 2, 0) + b"\x91\x63",
        struct.pack("<II", 0, 0),
        struct.pack("<II", 2, 3) + b"\x91\x06abc",
        struct.pack("<II", 100_002, 0) + b"\x92\x06" + b"\x91" * 100_000,
        b"GET / HTTP/1.1\r\nHost: replica\r\n\r\n",
    ],
    ids=["no msgpack", "no such tag", "no header", "more body than tensors", "deep", "HTTP"],
)
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(BadRequest):
        list(trusting().feed(stream))


def test_tensors_of_a_negative_length_are_refused() -> None:
    tensors = [Tensor("x", "UINT8", (8,), b"8 bytes!"), Tensor("y", "UINT8", (8,), b"8 bytes!")]
    stream = stream_of([ask(1, tensors)])
    forged = stream.replace(b"\x91\x08\x08", b"\x91\x08\xf8", 1).replace(
        b"\x91\x08\x08", b"\x91\x08\x18", 1
    )
    assert forged != stream
    with pytest.raises(BadRequest):
        list(trusting().feed(forged))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_gives_frames_or_a_bad_request_and_nothing_else(stream: bytes) -> None:
    with contextlib.suppress(BadRequest):
        list(trusting().feed(stream))


@settings(max_examples=30, deadline=None)
@given(st.lists(frames_sent, min_size=1, max_size=3), st.data())
def test_a_damaged_stream_gives_frames_or_a_bad_request_and_nothing_else(
    sent: list[Sent], data: st.DataObject
) -> None:
    stream = bytearray(stream_of(sent))
    offset = data.draw(st.integers(0, len(stream) - 1))
    stream[offset] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadRequest):
        list(trusting().feed(bytes(stream)))
