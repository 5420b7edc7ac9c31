"""The choice of a replica, and requests whose replica goes: real channels, without models."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.channel.replicas import Running, request, until
from tests.gateway.router_harness import RouterHarness, hang_up

from headrace.errors import (
    DeadlineExceeded,
    HeadraceError,
    NotReady,
    ReplicaLost,
    ShuttingDown,
    UnknownModel,
    UnknownVersion,
)
from headrace.inference.request import Request


async def outcome(asked: "asyncio.Task[float]") -> object:
    try:
        return await asked
    except HeadraceError as error:
        return type(error)


async def test_a_request_goes_to_the_replica_with_the_least_to_do(harness: RouterHarness) -> None:
    busy, idle = await harness.start(), await harness.start()
    busy.service.gate.clear()
    idle.service.gate.clear()
    asked = [asyncio.create_task(harness.dispatch(request(n))) for n in range(6)]
    await until(lambda: len(busy.service.requests) == len(idle.service.requests) == 3)
    busy.service.gate.set()
    idle.service.gate.set()
    assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8, 10]


async def test_the_newest_ready_version_answers_and_another_may_be_asked_for(
    harness: RouterHarness,
) -> None:
    nine, ten = await harness.start("9"), await harness.start("10")
    await harness.dispatch(request(1))
    await harness.dispatch(request(2), "9")
    assert [len(r.service.requests) for r in (nine, ten)] == [1, 1]
    ten.channel.say_going_away()
    await until(lambda: not harness.router.find("tiny", "10").is_ready)
    await harness.dispatch(request(3))
    assert len(nine.service.requests) == 2


async def test_versions_are_reported_when_they_join_and_leave_but_not_when_replicas_do(
    harness: RouterHarness,
) -> None:
    await harness.start("1")
    await harness.start("1")
    harness.update(harness.entries[1:])
    await harness.router.wait_linked()
    assert harness.events.versions == ["+1"]
    await harness.start("2")
    harness.update([entry for entry in harness.entries if entry.spec.version == "2"])
    await until(lambda: len(harness.events.versions) == 3)
    harness.update([], models=())
    await until(lambda: len(harness.events.versions) == 4)
    assert harness.events.versions == ["+1", "+2", "-1", "-2"]


async def test_unknown_models_and_versions_are_told_apart(harness: RouterHarness) -> None:
    with pytest.raises(NotReady):
        harness.router.find("other", None)  # nothing is known yet
    harness.update([])
    with pytest.raises(UnknownModel):
        harness.router.find("other", None)
    with pytest.raises(NotReady):
        harness.router.find("tiny", None)
    await harness.start()
    with pytest.raises(UnknownVersion):
        harness.router.find("tiny", "2")
    assert harness.router.is_ready


async def test_a_version_of_the_fleet_whose_only_replica_was_lost_is_not_ready_rather_than_unknown(
    harness: RouterHarness,
) -> None:
    await harness.start("1")
    two = await harness.start("2")
    Path(two.address.unix).unlink()
    hang_up(two)
    await until(lambda: not two.channel.peers)
    for _ in range(10):  # the gateway hears of it too
        await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await harness.dispatch(request(1, seconds=0.1), "2")


async def test_a_request_whose_replica_was_lost_is_answered_by_another(
    harness: RouterHarness,
) -> None:
    first, second = await harness.start(), await harness.start()
    first.service.gate.clear()
    second.service.gate.clear()
    asked = [asyncio.create_task(harness.dispatch(request(n))) for n in range(2)]
    await until(lambda: len(first.service.requests) == len(second.service.requests) == 1)
    second.service.gate.set()
    hang_up(first)
    assert sorted(await asyncio.gather(*asked)) == [0, 2]
    assert harness.events.retried == ["tiny"]


async def test_a_lost_replica_is_found_again(harness: RouterHarness) -> None:
    replica = await harness.start()
    hang_up(replica)
    await until(lambda: not replica.channel.peers)
    await until(lambda: len(replica.channel.peers) == 1 and harness.router.is_ready)
    assert await harness.dispatch(request(1)) == 2


async def test_repeats_stay_within_their_budget(harness: RouterHarness) -> None:
    """When everything falls over, repeating everything would keep it down."""
    first, second = await harness.start(), await harness.start()
    first.service.gate.clear()
    second.service.gate.clear()
    asked = [asyncio.create_task(harness.dispatch(request(n))) for n in range(60)]
    await until(lambda: len(first.service.requests) == len(second.service.requests) == 30)
    hang_up(first)
    second.service.gate.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert 1 <= len(harness.events.retried) <= 16


async def test_a_suspect_that_never_ran_is_asked_again_a_few_times_and_no_more(
    harness: RouterHarness,
) -> None:
    replicas = [await harness.start() for _ in range(6)]
    for replica in replicas:
        replica.service.before = partial(lose, replica)
    assert await outcome(asyncio.create_task(harness.dispatch(request(1)))) is ReplicaLost
    assert sum(len(replica.service.requests) for replica in replicas) == 4
    assert len(harness.events.retried) == 3


async def lose(replica: Running, _: Request) -> None:
    hang_up(replica)


async def test_a_repeat_does_not_outlive_the_deadline(harness: RouterHarness) -> None:
    first = await harness.start()
    first.service.gate.clear()
    asked = asyncio.create_task(harness.dispatch(request(1, seconds=0.05)))
    await until(lambda: len(first.service.requests) == 1)
    assert await outcome(asked) is DeadlineExceeded


async def test_a_replica_that_leaves_the_fleet_still_answers_what_it_accepted(
    harness: RouterHarness,
) -> None:
    """Otherwise every update and every scaling down would fail what is in flight."""
    replica = await harness.start()
    replica.service.gate.clear()
    asked = [asyncio.create_task(harness.dispatch(request(n))) for n in range(3)]
    await until(lambda: len(replica.service.requests) == 3)
    harness.update([])
    await asyncio.sleep(0)
    replica.service.gate.set()
    assert [await outcome(a) for a in asked] == [0, 2, 4]


async def test_a_replica_that_left_the_fleet_gets_nothing_new_and_its_channel_ends(
    harness: RouterHarness,
) -> None:
    leaving, staying = await harness.start(), await harness.start()
    harness.update(harness.entries[1:])
    await asyncio.sleep(0)
    assert [await harness.dispatch(request(n)) for n in range(4)] == [0, 2, 4, 6]
    assert (len(leaving.service.requests), len(staying.service.requests)) == (0, 4)
    await until(lambda: not leaving.channel.peers)


async def test_a_request_that_met_a_draining_replica_is_answered_by_another(
    harness: RouterHarness,
) -> None:
    """A request may cross the replica's goodbye: nothing of it ran, so another may run it."""
    first, second = await harness.start(), await harness.start()
    first.service.failure = second.service.failure = None
    for draining, other in ((first, second), (second, first)):
        draining.service.failure, other.service.failure = (
            ShuttingDown("the model is shutting down", 1),
            None,
        )
        asked = [asyncio.create_task(harness.dispatch(request(n))) for n in range(2)]
        assert [await outcome(a) for a in asked] == [0, 2]


async def test_a_fleet_that_is_told_twice_opens_one_channel_each(harness: RouterHarness) -> None:
    replica = await harness.start()
    for _ in range(3):
        harness.update(harness.entries)
        await asyncio.sleep(0)
    assert len(replica.channel.peers) == 1


async def test_a_replica_dropped_while_it_is_connected_to_leaves_nothing(
    harness: RouterHarness,
) -> None:
    replica = await harness.start()
    other = replace(harness.entries[0], id="other")
    for _ in range(5):
        harness.update([*harness.entries, other])
        await asyncio.sleep(0)
        harness.update(harness.entries)
        await asyncio.sleep(0)
    await until(lambda: len(replica.channel.peers) == 1)
    assert await harness.dispatch(request(1)) == 2


async def test_a_closed_router_has_closed_its_channels(harness: RouterHarness) -> None:
    replica = await harness.start()
    await harness.router.close()
    await until(lambda: not replica.channel.peers)
    assert harness.router.models() == {}


async def test_a_linked_router_uses_every_replica_of_its_fleet(
    harness: RouterHarness,
) -> None:
    """Otherwise a gateway would claim to use a fleet whose replicas it cannot reach yet."""
    replica = await harness.start()
    other = replace(harness.entries[0], id="other")
    harness.update([*harness.entries, other])
    await harness.router.wait_linked()
    assert len(replica.channel.peers) == 2
    assert all(client.is_ready for client in harness.router.models()["tiny"]["1"].clients.values())


async def test_a_replica_that_cannot_be_reached_or_leaves_again_holds_nobody_up(
    harness: RouterHarness,
) -> None:
    replica = await harness.start()
    lost = replace(harness.entries[0].address, unix="/nowhere")
    harness.update([*harness.entries, replace(harness.entries[0], id="lost", address=lost)])
    await harness.router.wait_linked()
    harness.update([*harness.entries, replace(harness.entries[0], id="other")])
    settling = asyncio.create_task(harness.router.wait_linked())
    harness.update([])
    await settling
    await until(lambda: not replica.channel.peers)
