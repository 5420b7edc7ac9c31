"""The lifeline between a platform and its gateways: their ends, and who waits for whom."""

import asyncio
import socket
from pathlib import Path

import pytest

from headrace.process.lifeline import Lifeline, hold

SOON_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lifeline"


@pytest.fixture
def lifeline(path: Path) -> Lifeline:
    return Lifeline(path)


class Gateway:
    """Holds the lifeline, and drains when the test lets it."""

    def __init__(self, path: Path) -> None:
        self.stop = asyncio.Event()
        self._holding = asyncio.create_task(hold(path, self.stop))

    async def stopped(self) -> None:
        async with asyncio.timeout(SOON_S):
            await self.stop.wait()

    async def has_drained(self) -> None:
        self._holding.cancel()
        await asyncio.gather(self._holding, return_exceptions=True)


async def gateways(path: Path, count: int) -> list[Gateway]:
    """They hold it after one tick of the loop: a listening socket accepts a connection at once."""
    made = [Gateway(path) for _ in range(count)]
    for _ in range(20):
        await asyncio.sleep(0)
    return made


@pytest.mark.parametrize("is_kept", [True, False])
async def test_the_end_waits_until_every_gateway_has_drained(
    lifeline: Lifeline, path: Path, is_kept: bool
) -> None:
    both = await gateways(path, 2)
    if is_kept:
        lifeline.keep()
    ending = asyncio.create_task(asyncio.to_thread(lifeline.end, SOON_S))
    for gateway in both:
        await gateway.stopped()
        assert not ending.done()
        await gateway.has_drained()
    assert await ending == 0


async def test_one_that_does_not_drain_in_time_is_counted(lifeline: Lifeline, path: Path) -> None:
    slow, quick = await gateways(path, 2)
    lifeline.keep()
    await quick.has_drained()
    assert await asyncio.to_thread(lifeline.end, 0.1) == 1
    await slow.stopped()
    await slow.has_drained()


async def test_gateways_that_came_and_went_leave_nothing_behind(
    lifeline: Lifeline, path: Path
) -> None:
    for _ in range(300):  # more than may wait to be taken up
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(path))
        lifeline.keep()
    assert lifeline.end(SOON_S) == 0


async def test_gateways_stop_when_the_platform_is_gone(path: Path) -> None:
    lifeline = Lifeline(path)
    (taken_up,) = await gateways(path, 1)
    lifeline.keep()
    (waiting,) = await gateways(path, 1)
    del lifeline  # as a process that is killed: its descriptors are closed
    for gateway in (taken_up, waiting):
        await gateway.stopped()
        await gateway.has_drained()


async def test_a_gateway_without_a_platform_at_the_other_end_goes_on(path: Path) -> None:
    stop = asyncio.Event()
    await hold(path, stop)
    assert not stop.is_set()
