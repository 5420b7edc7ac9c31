"""A model in declared trouble: refused at once with the reason, and no matter of the others or of the server."""

import asyncio
from dataclasses import replace

import pytest
from tests.channel.replicas import request
from tests.gateway.test_routing import outcome
from tests.gateway.test_sequences import step
from tests.gateway.towns import Town, fall_silent, speak_again, spec
from tests.waiting.test_waiting import HURT_S, asking, seconds_of, silent, turns

from headrace.errors import NotReady
from headrace.fleet.entries import ReplicaEntry, Trouble

WHY = "its process ended unexpectedly; 3 times recently"
TROUBLE = Trouble("tiny", "1", WHY)


async def other(town: Town) -> ReplicaEntry:
    """A sound replica of another model."""
    await town.launch()
    return replace(town.entries.pop(), id="other", spec=spec(name="other"))


async def test_a_version_in_trouble_is_refused_at_once_with_the_reason_and_so_is_who_waits(
    town: Town,
) -> None:
    await silent(town)
    for asked in (request(1, seconds=30), step(1, starts=True)):
        town.tell(town.entries)
        waiting = asyncio.create_task(outcome(asking(town, asked)))
        await turns()
        assert not waiting.done()
        town.tell(town.entries, troubles=[TROUBLE])
        assert await seconds_of(waiting) == 0
        assert waiting.result() is NotReady
        with pytest.raises(NotReady, match=WHY) as refused:
            await town.ask(asked)
        assert refused.value.retry_after_s == 30
    assert town.events.waiting() == 0


async def test_a_model_in_trouble_of_which_nothing_is_known_is_refused_with_the_reason(
    town: Town,
) -> None:
    town.tell([], troubles=[TROUBLE])
    with pytest.raises(NotReady, match=WHY):
        town.router.find("tiny", None)


async def test_a_replica_that_is_up_between_two_ends_answers_though_the_model_is_not_called_sound(
    town: Town,
) -> None:
    await town.start()
    town.tell(town.entries, troubles=[TROUBLE])
    assert await town.ask(request(1)) == 2
    assert not town.router.find("tiny", None).is_sound
    town.tell(town.entries)
    assert town.router.find("tiny", None).is_sound


async def test_the_server_is_ready_without_the_models_in_trouble_but_not_with_nothing_else(
    town: Town,
) -> None:
    both = ("tiny", "other")
    replica, entry = await town.start(), await other(town)
    entries = [*town.entries, entry]
    town.tell(entries, both)
    await town.router.wait_linked()
    await turns()
    assert town.router.is_ready
    for _ in range(3):  # up and down again and again
        fall_silent(replica)
        await asyncio.sleep(HURT_S)
        town.tell(entries, both)
        assert not town.router.is_ready  # a single end is no trouble
        town.tell(entries, both, [TROUBLE])
        assert town.router.is_ready
        speak_again(replica)
        await turns()
        assert town.router.is_ready
    fall_silent(replica)
    await asyncio.sleep(HURT_S)
    town.tell(town.entries, ("tiny",), [TROUBLE])
    assert not town.router.is_ready


async def test_a_new_version_in_trouble_takes_nothing_from_the_one_that_serves(town: Town) -> None:
    one, two = await town.start("1"), await town.start("2")
    town.tell(town.entries, troubles=[Trouble("tiny", "2", WHY)])
    assert await town.ask(request(1)) == 2
    assert (len(one.service.requests), len(two.service.requests)) == (1, 0)
    assert town.router.find("tiny", None).is_sound
    assert town.router.is_ready
    assert not town.events.troubled.get("tiny")


async def test_the_metric_follows(town: Town) -> None:
    await town.start()
    town.tell(town.entries, troubles=[TROUBLE])
    assert town.events.troubled == {"tiny": True}
    town.tell(town.entries)
    assert town.events.troubled == {"tiny": False}
