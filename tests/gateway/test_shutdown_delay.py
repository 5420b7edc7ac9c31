"""The end of a gateway behind a balancer: not ready first, and closed when the balancer had time to
see it.
"""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from loadtests.support.in_process_platform import in_process_platform
from loadtests.support.virtual_time import VirtualTimeLoop

from headrace.errors import ShuttingDown
from headrace.gateway.admission import Admission
from headrace.gateway.settings import GatewayLimits


def is_open(admission: Admission) -> bool:
    try:
        admission.check()
    except ShuttingDown:
        return False
    return True


def test_a_gateway_that_ends_says_so_for_the_whole_delay_before_it_takes_nothing_new() -> None:
    async def seen() -> list[tuple[bool, bool]]:
        admission = Admission(GatewayLimits())
        before = admission.is_ending, is_open(admission)
        ending = asyncio.create_task(admission.wind_down(5.0))
        await asyncio.sleep(0)
        first = admission.is_ending, is_open(admission)
        await asyncio.sleep(4.9)
        last = admission.is_ending, is_open(admission)
        await ending
        return [before, first, last, (admission.is_ending, is_open(admission))]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(seen()) == [(False, True), (True, True), (True, True), (True, False)]


@pytest.mark.slow("waits for seconds on the real clock")
def test_meanwhile_the_gateway_answers_as_ever_and_its_readiness_alone_says_that_it_ends(
    tmp_path: Path,
) -> None:
    row = np.zeros((1, 4), np.float32)
    with in_process_platform(tmp_path, shutdown_delay_s=5.0) as running:
        running.gateway_thread.stop()
        while (answer := running.ask("GET", "/v2/health/ready"))[0] == 200:
            pass
        assert (answer[0], answer[1]["code"]) == (503, "shutting_down")
        assert running.ask("GET", "/v2/health/live")[0] == 200
        assert running.infer(row)[0] == 200
