"""A model in declared trouble is refused at once with the reason, and harms no other."""

import asyncio
from dataclasses import replace

import pytest
from tests.channel.replicas import request
from tests.gateway.router_harness import RouterHarness, fall_silent, speak_again, spec
from tests.gateway.routing.test_router import outcome
from tests.gateway.routing.test_sequence_router import step
from tests.waiting.test_waiting import HURT_S, asking, seconds_of, silent, turns

from headrace.errors import NotReady
from headrace.fleet.entries import ReplicaEntry, Trouble

WHY = "its process ended unexpectedly; 3 times recently"
TROUBLE = Trouble("tiny", "1", WHY)


async def other(harness: RouterHarness) -> ReplicaEntry:
    """A sound replica of another model."""
    await harness.launch()
    return replace(harness.entries.pop(), id="other", spec=spec(name="other"))


async def test_a_version_in_trouble_is_refused_at_once_with_the_reason_and_so_is_who_waits(
    harness: RouterHarness,
) -> None:
    await silent(harness)
    for asked in (request(1, seconds=30), step(1, starts=True)):
        harness.update(harness.entries)
        waiting = asyncio.create_task(outcome(asking(harness, asked)))
        await turns()
        assert not waiting.done()
        harness.update(harness.entries, troubles=[TROUBLE])
        assert await seconds_of(waiting) == 0
        assert waiting.result() is NotReady
        with pytest.raises(NotReady, match=WHY) as refused:
            await harness.dispatch(asked)
        assert refused.value.retry_after_s == 30
    assert harness.events.waiting() == 0


async def test_a_model_in_trouble_of_which_nothing_is_known_is_refused_with_the_reason(
    harness: RouterHarness,
) -> None:
    harness.update([], troubles=[TROUBLE])
    with pytest.raises(NotReady, match=WHY):
        harness.router.find("tiny", None)


async def test_a_replica_that_is_up_between_two_ends_answers_though_the_model_is_not_called_sound(
    harness: RouterHarness,
) -> None:
    await harness.start()
    harness.update(harness.entries, troubles=[TROUBLE])
    assert await harness.dispatch(request(1)) == 2
    assert not harness.router.find("tiny", None).is_sound
    harness.update(harness.entries)
    assert harness.router.find("tiny", None).is_sound


async def test_the_server_is_ready_without_the_models_in_trouble_but_not_with_nothing_else(
    harness: RouterHarness,
) -> None:
    both = ("tiny", "other")
    replica, entry = await harness.start(), await other(harness)
    entries = [*harness.entries, entry]
    harness.update(entries, both)
    await harness.router.wait_linked()
    await turns()
    assert harness.router.is_ready
    for _ in range(3):  # up and down again and again
        fall_silent(replica)
        await asyncio.sleep(HURT_S)
        harness.update(entries, both)
        assert not harness.router.is_ready  # a single end is no trouble
        harness.update(entries, both, [TROUBLE])
        assert harness.router.is_ready
        speak_again(replica)
        await turns()
        assert harness.router.is_ready
    fall_silent(replica)
    await asyncio.sleep(HURT_S)
    harness.update(harness.entries, ("tiny",), [TROUBLE])
    assert not harness.router.is_ready


async def test_a_new_version_in_trouble_takes_nothing_from_the_one_that_serves(
    harness: RouterHarness,
) -> None:
    one, two = await harness.start("1"), await harness.start("2")
    harness.update(harness.entries, troubles=[Trouble("tiny", "2", WHY)])
    assert await harness.dispatch(request(1)) == 2
    assert (len(one.service.requests), len(two.service.requests)) == (1, 0)
    assert harness.router.find("tiny", None).is_sound
    assert harness.router.is_ready
    assert not harness.events.troubled.get("tiny")


async def test_the_metric_follows(harness: RouterHarness) -> None:
    await harness.start()
    harness.update(harness.entries, troubles=[TROUBLE])
    assert harness.events.troubled == {"tiny": True}
    harness.update(harness.entries)
    assert harness.events.troubled == {"tiny": False}
