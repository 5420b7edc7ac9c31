"""Which replica answers, and what becomes of a request whose replica goes: over real channels, without models."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.channel.replicas import Running, request, until
from tests.gateway.towns import Town, hang_up

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


async def test_a_request_goes_to_the_replica_with_the_least_to_do(town: Town) -> None:
    busy, idle = await town.start(), await town.start()
    busy.service.gate.clear()
    idle.service.gate.clear()
    asked = [asyncio.create_task(town.ask(request(n))) for n in range(6)]
    await until(lambda: len(busy.service.requests) == len(idle.service.requests) == 3)
    busy.service.gate.set()
    idle.service.gate.set()
    assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8, 10]


async def test_the_newest_ready_version_answers_and_another_may_be_asked_for(town: Town) -> None:
    nine, ten = await town.start("9"), await town.start("10")
    await town.ask(request(1))
    await town.ask(request(2), "9")
    assert [len(r.service.requests) for r in (nine, ten)] == [1, 1]
    ten.channel.say_going_away()
    await until(lambda: not town.router.find("tiny", "10").is_ready)
    await town.ask(request(3))
    assert len(nine.service.requests) == 2


async def test_versions_are_told_when_they_join_and_leave_but_not_when_replicas_do(
    town: Town,
) -> None:
    await town.start("1")
    await town.start("1")
    town.tell(town.entries[1:])
    await town.router.wait_linked()
    assert town.events.versions == ["+1"]
    await town.start("2")
    town.tell([entry for entry in town.entries if entry.spec.version == "2"])
    await until(lambda: len(town.events.versions) == 3)
    town.tell([], models=())
    await until(lambda: len(town.events.versions) == 4)
    assert town.events.versions == ["+1", "+2", "-1", "-2"]


async def test_what_is_not_there_is_told_apart(town: Town) -> None:
    with pytest.raises(NotReady):
        town.router.find("other", None)  # nothing is known yet
    town.tell([])
    with pytest.raises(UnknownModel):
        town.router.find("other", None)
    with pytest.raises(NotReady):
        town.router.find("tiny", None)
    await town.start()
    with pytest.raises(UnknownVersion):
        town.router.find("tiny", "2")
    assert town.router.is_ready


async def test_a_version_of_the_fleet_whose_only_replica_was_lost_is_not_ready_rather_than_unknown(
    town: Town,
) -> None:
    await town.start("1")
    two = await town.start("2")
    Path(two.address.unix).unlink()
    hang_up(two)
    await until(lambda: not two.channel.peers)
    for _ in range(10):  # the gateway hears of it too
        await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await town.ask(request(1, seconds=0.1), "2")


async def test_a_request_whose_replica_was_lost_is_answered_by_another(town: Town) -> None:
    first, second = await town.start(), await town.start()
    first.service.gate.clear()
    second.service.gate.clear()
    asked = [asyncio.create_task(town.ask(request(n))) for n in range(2)]
    await until(lambda: len(first.service.requests) == len(second.service.requests) == 1)
    second.service.gate.set()
    hang_up(first)
    assert sorted(await asyncio.gather(*asked)) == [0, 2]
    assert town.events.models == ["tiny"]


async def test_a_lost_replica_is_found_again(town: Town) -> None:
    replica = await town.start()
    hang_up(replica)
    await until(lambda: not replica.channel.peers)
    await until(lambda: len(replica.channel.peers) == 1 and town.router.is_ready)
    assert await town.ask(request(1)) == 2


async def test_repeats_stay_within_their_budget(town: Town) -> None:
    """When everything falls over, repeating everything would keep it down."""
    first, second = await town.start(), await town.start()
    first.service.gate.clear()
    second.service.gate.clear()
    asked = [asyncio.create_task(town.ask(request(n))) for n in range(60)]
    await until(lambda: len(first.service.requests) == len(second.service.requests) == 30)
    hang_up(first)
    second.service.gate.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert 1 <= len(town.events.models) <= 16


async def test_a_suspect_that_never_ran_is_asked_again_a_few_times_and_no_more(town: Town) -> None:
    replicas = [await town.start() for _ in range(6)]
    for replica in replicas:
        replica.service.before = partial(lose, replica)
    assert await outcome(asyncio.create_task(town.ask(request(1)))) is ReplicaLost
    assert sum(len(replica.service.requests) for replica in replicas) == 4
    assert len(town.events.models) == 3


async def lose(replica: Running, _: Request) -> None:
    hang_up(replica)


async def test_a_repeat_does_not_outlive_the_deadline(town: Town) -> None:
    first = await town.start()
    first.service.gate.clear()
    asked = asyncio.create_task(town.ask(request(1, seconds=0.05)))
    await until(lambda: len(first.service.requests) == 1)
    assert await outcome(asked) is DeadlineExceeded


async def test_a_replica_that_leaves_the_fleet_still_answers_what_it_accepted(town: Town) -> None:
    """Else every update and every scaling down would fail what is in flight."""
    replica = await town.start()
    replica.service.gate.clear()
    asked = [asyncio.create_task(town.ask(request(n))) for n in range(3)]
    await until(lambda: len(replica.service.requests) == 3)
    town.tell([])
    await asyncio.sleep(0)
    replica.service.gate.set()
    assert [await outcome(a) for a in asked] == [0, 2, 4]


async def test_a_replica_that_left_the_fleet_gets_nothing_new_and_its_channel_ends(
    town: Town,
) -> None:
    leaving, staying = await town.start(), await town.start()
    town.tell(town.entries[1:])
    await asyncio.sleep(0)
    assert [await town.ask(request(n)) for n in range(4)] == [0, 2, 4, 6]
    assert (len(leaving.service.requests), len(staying.service.requests)) == (0, 4)
    await until(lambda: not leaving.channel.peers)


async def test_a_request_that_met_a_draining_replica_is_answered_by_another(town: Town) -> None:
    """A request may cross the replica's goodbye: nothing of it ran, so another replica may have it."""
    first, second = await town.start(), await town.start()
    first.service.failure = second.service.failure = None
    for draining, other in ((first, second), (second, first)):
        draining.service.failure, other.service.failure = (
            ShuttingDown("the model is shutting down", 1),
            None,
        )
        asked = [asyncio.create_task(town.ask(request(n))) for n in range(2)]
        assert [await outcome(a) for a in asked] == [0, 2]


async def test_a_fleet_told_twice_opens_one_channel_each(town: Town) -> None:
    replica = await town.start()
    for _ in range(3):
        town.tell(town.entries)
        await asyncio.sleep(0)
    assert len(replica.channel.peers) == 1


async def test_a_replica_dropped_while_it_is_connected_to_leaves_nothing(town: Town) -> None:
    replica = await town.start()
    other = replace(town.entries[0], id="other")
    for _ in range(5):
        town.tell([*town.entries, other])
        await asyncio.sleep(0)
        town.tell(town.entries)
        await asyncio.sleep(0)
    await until(lambda: len(replica.channel.peers) == 1)
    assert await town.ask(request(1)) == 2


async def test_a_closed_router_has_closed_its_channels(town: Town) -> None:
    replica = await town.start()
    await town.router.close()
    await until(lambda: not replica.channel.peers)
    assert town.router.models() == {}


async def test_a_settled_router_uses_every_replica_that_it_was_told_of(town: Town) -> None:
    """Else a gateway would say that it acts on a fleet whose replicas it cannot ask yet."""
    replica = await town.start()
    other = replace(town.entries[0], id="other")
    town.tell([*town.entries, other])
    await town.router.wait_linked()
    assert len(replica.channel.peers) == 2
    assert all(client.is_ready for client in town.router.models()["tiny"]["1"].replicas.values())


async def test_a_replica_that_cannot_be_reached_or_leaves_again_holds_nobody_up(town: Town) -> None:
    replica = await town.start()
    lost = replace(town.entries[0].address, unix="/nowhere")
    town.tell([*town.entries, replace(town.entries[0], id="lost", address=lost)])
    await town.router.wait_linked()
    town.tell([*town.entries, replace(town.entries[0], id="other")])
    settling = asyncio.create_task(town.router.wait_linked())
    town.tell([])
    await settling
    await until(lambda: not replica.channel.peers)
