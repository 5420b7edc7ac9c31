"""The loop's lag is told: none while it is free, all but a timer's period of what held it."""

import asyncio

import pytest
from loadtests.support import virtual_time
from loadtests.support.virtual_time import VirtualTimeLoop
from prometheus_client import CollectorRegistry

from headrace.gateway.access import watch_loop
from headrace.telemetry.events import GatewayEvents
from headrace.telemetry.prometheus import PrometheusGateway

PERIOD_S = 0.02


class Told(GatewayEvents):
    def __init__(self) -> None:
        self.lags_s: list[float] = []

    def loop_lagged(self, seconds: float) -> None:
        self.lags_s.append(seconds)


async def lags_s(events: GatewayEvents, block_s: float) -> None:
    """Watch a loop that is free for half a second, held for `block_s`, and free again."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    watching = asyncio.create_task(watch_loop(events, loop.time))
    await asyncio.sleep(0.5)
    loop.now_s += block_s  # as code that does not return to the loop
    await asyncio.sleep(0.5)
    watching.cancel()


def test_a_free_loop_has_no_lag() -> None:
    told = Told()
    virtual_time.run(lags_s(told, 0.0))
    assert max(told.lags_s) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("block_s", [0.05, 0.3, 2.0])
def test_a_blocked_loop_tells_the_lag_once(block_s: float) -> None:
    told = Told()
    virtual_time.run(lags_s(told, block_s))
    assert block_s - PERIOD_S <= max(told.lags_s) <= block_s
    assert sum(lag_s > PERIOD_S for lag_s in told.lags_s) == 1


def test_the_metric_shows_the_block() -> None:
    registry = CollectorRegistry()
    virtual_time.run(lags_s(PrometheusGateway(registry), 0.3))
    name = "headrace_loop_lag_seconds_bucket"
    up_to, all_of = (registry.get_sample_value(name, {"le": bound}) for bound in ("0.25", "+Inf"))
    assert up_to is not None
    assert all_of == up_to + 1
