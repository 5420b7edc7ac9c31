"""Streams of audio: many at a time in real time, as many as go, and through replicas that come and
go.

    python -m loadtests.streams

200 streams over two replicas: first each sends 96 ms of audio (three frames) every 96 ms, and
should be answered before the next; then all send as fast as they are answered, beside a loop in
this process that runs the bare model on batches of 32. Every probability is compared with that of
one frame after the other. Exit status 1 if the first is missed, or anything is wrong.
`moving_streams.py` has what happens while replicas come and go.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import numpy as np
import numpy.typing as npt
import orjson
import typer
import uvloop
from loadtests.inputs import CheckedRequest
from loadtests.support.checkout import REPOSITORY
from loadtests.support.http_client import HttpClient
from loadtests.support.process_platform import Replica, process_platform
from rich.console import Console

from headrace import backends
from headrace.loadtest.percentiles import percentile, percentiles
from headrace_models.repository import ModelVersion, scan

__all__ = ["CHUNK_S", "MODEL", "Course", "hum", "probabilities", "run_streams", "tell"]

MODEL = "silero-vad"
RATE_HZ, HOP, CONTEXT = 16_000, 512, 64
FRAMES_A_CHUNK = 3
CHUNK = FRAMES_A_CHUNK * HOP
CHUNK_S = CHUNK / RATE_HZ
STREAMS, REPLICAS = 200, 2
MAX_P99_S = CHUNK_S
LOOP_ROWS = 32
_PATIENCE_S = 10.0
_HEADERS = {"Content-Type": "application/octet-stream"}

Pcm = npt.NDArray[np.int16]
Probabilities = npt.NDArray[np.float32]


@dataclass
class Course:
    """The results of streams: seconds from each chunk's due time to its answer, and faults."""

    latencies_s: list[float] = field(default_factory=list)
    frames: int = 0
    lost: int = 0
    wrong: int = 0
    took_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def p99_s(self) -> float:
        return percentile(self.latencies_s, 99)


def hum(chunks: int) -> Pcm:
    """A voice-like hum that comes and goes, and noise: INT16 [chunks * CHUNK]."""
    at_s = np.arange(chunks * CHUNK) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 140 * n * at_s) / n for n in range(1, 12))
    loudness = np.clip(np.sin(2 * np.pi * at_s / 1.7), 0, 1)
    noise = np.random.default_rng(0).normal(0, 0.01, len(at_s))
    return np.asarray((0.2 * voice * loudness + noise) * 32768).clip(-32768, 32767).astype(np.int16)


def probabilities(version: ModelVersion, pcm: Pcm) -> Probabilities:
    """FP32 [frames], by the bare model in this process, one frame after the other."""
    model = backends.load(version, "onnx")
    state = np.zeros((1, 2, 128), np.float32)
    samples = np.concatenate((np.zeros(CONTEXT, np.float32), pcm.astype(np.float32) / 32768))
    found = []
    for start in range(0, len(pcm) - HOP + 1, HOP):
        ran = model.run(
            {"input": samples[np.newaxis, start : start + CONTEXT + HOP], "state": state}
        )
        state = ran["stateN"]
        found.append(ran["output"][0, 0])
    return np.array(found, np.float32)


async def listen(
    client: HttpClient,
    name: str,
    chunks: Sequence[bytes],
    expected: Probabilities,
    due: Callable[[int], float] | None,
    course: Course,
) -> None:
    """Send a stream's chunks, each when `due` (or at once), and compare what is answered."""
    for number, chunk in enumerate(chunks):
        ends = number == len(chunks) - 1
        query = f"sequence_id={name}" + (
            "&sequence_start=true" if not number else "&sequence_end=true" if ends else ""
        )
        due_s = time.perf_counter()
        if due is not None:
            due_s = due(number)
            await asyncio.sleep(due_s - time.perf_counter())
        request = CheckedRequest(
            MODEL, f"/v1/models/{MODEL}:stream?{query}", _HEADERS, chunk, lambda _: True
        )
        reply = await client.send(request)
        if reply.status != 200:
            course.lost += 1
            course.faults.append(f"{reply.status} {reply.body[:200].decode(errors='replace')}")
            return
        course.latencies_s.append(time.perf_counter() - due_s)
        answer = orjson.loads(reply.body)["probabilities"]
        course.frames += len(answer)
        first = number * FRAMES_A_CHUNK
        course.wrong += not np.array_equal(
            np.asarray(answer, np.float32), expected[first : first + len(answer)]
        )


async def run_streams(
    url: str, streams: int, pcm: Pcm, expected: Probabilities, *, is_paced: bool, prefix: str
) -> Course:
    """So many streams of the same audio, begun one after the other within the time of a chunk."""
    raw = pcm.tobytes()
    chunks = [raw[start : start + 2 * CHUNK] for start in range(0, len(raw), 2 * CHUNK)]
    course = Course()
    async with HttpClient(url, _PATIENCE_S, _PATIENCE_S) as client:
        await client.connect(streams)
        began_s = time.perf_counter()

        def due(stream: int, number: int) -> float:
            return began_s + 0.1 + stream * CHUNK_S / streams + number * CHUNK_S

        async with asyncio.TaskGroup() as group:
            for n in range(streams):
                when = partial(due, n) if is_paced else None
                group.create_task(listen(client, f"{prefix}-{n}", chunks, expected, when, course))
        course.took_s = time.perf_counter() - began_s
    return course


def loop_frames_a_second(version: ModelVersion, seconds: float) -> float:
    """Rate of the bare model in this process, in batches of LOOP_ROWS with their states."""
    model = backends.load(version, "onnx")
    frames = np.random.default_rng(0).normal(0, 0.1, (LOOP_ROWS, CONTEXT + HOP)).astype(np.float32)
    state = np.zeros((LOOP_ROWS, 2, 128), np.float32)
    began_s, runs = time.perf_counter(), 0
    while time.perf_counter() - began_s < seconds:
        state = model.run({"input": frames, "state": state})["stateN"]
        runs += 1
    return runs * LOOP_ROWS / (time.perf_counter() - began_s)


def steady(console: Console, seconds: float) -> bool:
    """Streams in real time. True if each answer came before the next chunk, and all were right."""
    version = scan(REPOSITORY, [MODEL])[0][0]
    pcm = hum(round(seconds / CHUNK_S))
    with process_platform([Replica(version.folder)] * REPLICAS) as at:
        found = uvloop.run(
            run_streams(
                at.url, STREAMS, pcm, probabilities(version, pcm), is_paced=True, prefix="steady"
            )
        )
    tell(console, f"{STREAMS} streams, {1e3 * CHUNK_S:.0f} ms a chunk, {REPLICAS} replicas", found)
    return found.p99_s() < MAX_P99_S and not found.lost and not found.wrong


def most(console: Console, seconds: float) -> bool:
    """Streams as fast as they are answered, and the loop before and after."""
    version = scan(REPOSITORY, [MODEL])[0][0]
    before = loop_frames_a_second(version, seconds / 2)
    # About so many seconds, at ten chunks a second of each stream.
    pcm = hum(max(2, round(seconds)))
    pcm = np.tile(pcm, 10)
    with process_platform([Replica(version.folder)] * REPLICAS) as at:
        found = uvloop.run(
            run_streams(
                at.url, STREAMS, pcm, probabilities(version, pcm), is_paced=False, prefix="most"
            )
        )
    after = loop_frames_a_second(version, seconds / 2)
    tell(console, f"{STREAMS} streams as fast as they are answered, {REPLICAS} replicas", found)
    rate, loop = found.frames / found.took_s, (before + after) / 2
    console.print(
        f"{rate:.0f} frames/s, the loop on batches of {LOOP_ROWS} {loop:.0f} ({before:.0f} and "
        f"{after:.0f}): "
        f"{rate / loop:.2f}"
    )
    return not found.lost and not found.wrong


def tell(console: Console, what: str, found: Course) -> None:
    p50, p95, p99 = (1e3 * value for value in percentiles(found.latencies_s, (50, 95, 99)))
    console.print(
        f"{what}: {len(found.latencies_s)} chunks in {found.took_s:.1f} s, p50 {p50:.1f} ms, "
        f"p95 {p95:.1f} ms, "
        f"p99 {p99:.1f} ms; {found.lost} streams lost, {found.wrong} chunks wrong"
    )
    for fault in found.faults[:3]:
        console.print(f"  {fault}", markup=False)


def main(
    seconds: Annotated[float, typer.Option(min=2, help="How long each part takes, about.")] = 20.0,
) -> None:
    """Measure streams of audio in real time and at full speed.

    Example: python -m loadtests.streams --seconds 10
    """
    console = Console(soft_wrap=True, highlight=False)
    is_in_time = steady(console, seconds)
    is_right = most(console, seconds)
    raise typer.Exit(0 if is_in_time and is_right else 1)


if __name__ == "__main__":
    typer.run(main)
