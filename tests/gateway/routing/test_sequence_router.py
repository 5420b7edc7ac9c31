"""The routing of steps: real channels, to replicas without states that can say so."""

import asyncio
from pathlib import Path
from time import monotonic

import pytest
from tests.channel.replicas import Running, doubled, request, until
from tests.gateway.router_harness import RouterHarness, hang_up

from headrace.channel import Health
from headrace.errors import (
    NotReady,
    QuotaExceeded,
    ReplicaLost,
    SequenceLost,
    SequenceMoved,
    SequenceUnknown,
    ShuttingDown,
)
from headrace.gateway.routing.sequence_table import Holder, SequenceTable
from headrace.inference.request import Request, SequenceStep
from headrace.inference.sequences import SequenceKey, home_of

REPLICAS = ("one", "two", "three")


def step(number: float, of: str = "1", *, starts: bool = False, ends: bool = False) -> Request:
    asked = request(number)
    asked.sequence = SequenceStep(of, starts, ends)
    return asked


def hurried(asked: Request) -> Request:
    """Leave it next to no time to wait."""
    asked.deadline_s = monotonic() + 0.1
    return asked


def steps_of(replica: Running) -> list[str]:
    return [asked.sequence.id for asked in replica.service.requests if asked.sequence]


async def holder_of(harness: RouterHarness, replicas: list[Running], of: str) -> int:
    """Start a sequence, and see which of the replicas has it."""
    before = [len(steps_of(replica)) for replica in replicas]
    await harness.dispatch(step(1, of, starts=True))
    return next(n for n, replica in enumerate(replicas) if len(steps_of(replica)) > before[n])


async def test_a_sequence_stays_with_its_replica_however_busy_that_is(
    harness: RouterHarness,
) -> None:
    replicas = [await harness.start() for _ in range(3)]
    holder = replicas[await holder_of(harness, replicas, "1")]
    holder.service.gate.clear()
    asked = [asyncio.create_task(harness.dispatch(step(n))) for n in range(8)]
    await until(lambda: len(steps_of(holder)) == 9)
    holder.service.gate.set()
    assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8, 10, 12, 14]


async def test_sequences_spread_over_the_replicas(harness: RouterHarness) -> None:
    replicas = [await harness.start() for _ in range(3)]
    for n in range(60):
        await harness.dispatch(step(1, str(n), starts=True))
    assert min(len(steps_of(replica)) for replica in replicas) >= 8


async def test_another_gateway_finds_the_replica_by_itself(harness: RouterHarness) -> None:
    replicas = [await harness.start() for _ in range(3)]
    for n in range(12):
        await harness.dispatch(step(1, str(n), starts=True))
    held = [sorted(steps_of(replica)) for replica in replicas]
    other = await harness.another_gateway()
    for n in range(12):
        await other.dispatch(other.find("tiny", None), step(2, str(n)))
    assert [sorted(steps_of(replica)) for replica in replicas] == [sorted(ids * 2) for ids in held]


async def test_a_new_replica_takes_no_running_sequence_away(harness: RouterHarness) -> None:
    first = await harness.start()
    for n in range(12):
        await harness.dispatch(step(1, str(n), starts=True))
    second = await harness.start()
    for n in range(12):
        await harness.dispatch(step(2, str(n), starts=n == 3))
    assert (len(steps_of(first)), len(steps_of(second))) == (24, 0)


async def test_the_state_of_a_lost_replica_is_said_to_be_lost_until_the_sequence_starts_again(
    harness: RouterHarness,
) -> None:
    replicas = [await harness.start() for _ in range(2)]
    lost = await holder_of(harness, replicas, "1")
    harness.update([entry for n, entry in enumerate(harness.entries) if n != lost])
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(SequenceLost, match="start it again with sequence_start"):
            await harness.dispatch(step(2))
    assert [await harness.dispatch(step(3, starts=True)), await harness.dispatch(step(4))] == [6, 8]


async def test_a_step_whose_replica_goes_is_not_asked_elsewhere(harness: RouterHarness) -> None:
    replicas = [await harness.start() for _ in range(2)]
    lost = await holder_of(harness, replicas, "1")
    replicas[lost].service.gate.clear()
    asked = asyncio.create_task(harness.dispatch(step(2)))
    await until(lambda: len(steps_of(replicas[lost])) == 2)
    hang_up(replicas[lost])
    with pytest.raises(ReplicaLost):
        await asked
    assert steps_of(replicas[1 - lost]) == []
    assert harness.events.retried == []


async def test_a_replica_that_cannot_be_reached_for_a_moment_has_lost_nothing_yet(
    harness: RouterHarness,
) -> None:
    replicas = [await harness.start() for _ in range(2)]
    away = await holder_of(harness, replicas, "1")
    Path(replicas[away].address.unix).rename(Path(replicas[away].address.unix + ".away"))
    hang_up(replicas[away])
    version = harness.router.find("tiny", None)
    await until(lambda: len(version.clients) == 1)
    with pytest.raises(NotReady) as refused:
        await harness.dispatch(hurried(step(2)))
    assert refused.value.retry_after_s
    patient = asyncio.create_task(harness.dispatch(step(2)))
    Path(replicas[away].address.unix + ".away").rename(replicas[away].address.unix)
    assert await patient == 4


async def test_what_the_replica_says_of_a_sequence_comes_back(harness: RouterHarness) -> None:
    replica = await harness.start()
    for failure in (SequenceUnknown("no such sequence"), QuotaExceeded("too many", 1)):
        replica.service.failure = failure
        with pytest.raises(type(failure)):
            await harness.dispatch(step(1))


async def test_a_version_has_its_own_sequences(harness: RouterHarness) -> None:
    one, two = await harness.start("1"), await harness.start("2")
    for version in ("1", "2", "1"):
        doubled(
            await harness.router.dispatch(
                harness.router.find("tiny", version), step(1, starts=True)
            )
        )
    assert (len(steps_of(one)), len(steps_of(two))) == (2, 1)


def test_only_the_sequences_of_a_replica_that_leaves_have_another_home() -> None:
    keys = [str(n) for n in range(300)]
    before = {key: home_of(key, REPLICAS) for key in keys}
    after = {key: home_of(key, REPLICAS[:2]) for key in keys}
    assert {key for key in keys if after[key] != before[key]} == {
        key for key in keys if before[key] == "three"
    }


async def test_a_sequence_starts_anew_where_it_is_known_and_elsewhere_only_when_that_is_gone(
    harness: RouterHarness,
) -> None:
    """Otherwise another gateway, which knows the old replica, would use the old state."""
    replicas = [await harness.start() for _ in range(2)]
    away = await holder_of(harness, replicas, "1")
    replicas[away].service.health_now = Health(is_ready=False, waiting_rows=0)
    client = harness.router.find("tiny", None).clients[str(away)]
    await until(lambda: not client.is_ready)
    with pytest.raises(NotReady):
        await harness.dispatch(hurried(step(1, starts=True)))
    harness.update([entry for n, entry in enumerate(harness.entries) if n != away])
    await asyncio.sleep(0)
    assert await harness.dispatch(step(1, starts=True)) == 2
    assert len(steps_of(replicas[1 - away])) == 1


def test_the_longest_unused_sequences_are_forgotten_first() -> None:
    holders = SequenceTable(most=3)
    for name in ("0", "1", "2", "0", "3"):
        holders.hold(name, "one")
    assert [holders.find(name) for name in "0123"] == [
        Holder("one"),
        None,
        Holder("one"),
        Holder("one"),
    ]


def test_a_holder_moves_once_it_is_known_to_be_the_source_or_not_known_at_all() -> None:
    holders = SequenceTable()
    holders.hold("1", "one")
    for name in ("1", "2"):
        holders.move(name, "one", "two")
        assert holders.find(name) == Holder("two", successor_of="one")
        holders.move(name, "one", "three")
        assert holders.find(name) == Holder("two", successor_of="one")
    holders.hold("1", "two")
    assert holders.find("1") == Holder("two", successor_of="one")
    holders.hold("1", "three")
    assert holders.find("1") == Holder("three")


def test_what_is_forgotten_is_not_known() -> None:
    holders = SequenceTable()
    holders.hold("1", "one")
    holders.forget("1")
    holders.forget("1")
    assert holders.find("1") is None


async def moved_from(
    harness: RouterHarness, replicas: list[Running], of: str
) -> tuple[Running, Running]:
    """Start a sequence in one of two replicas, whose next answers wait: source and successor."""
    source = await holder_of(harness, replicas, of)
    replicas[source].service.gate.clear()
    return replicas[source], replicas[1 - source]


def says_moved(source: Running, replicas: list[Running]) -> None:
    source.channel.say_going_away()
    source.channel.say_moved(str(1 - replicas.index(source)), [SequenceKey("", "1")])


async def test_no_step_overtakes_one_that_is_under_way_to_where_its_sequence_was(
    harness: RouterHarness,
) -> None:
    replicas = [await harness.start() for _ in range(2)]
    source, successor = await moved_from(harness, replicas, "1")
    early = [asyncio.create_task(harness.dispatch(step(n))) for n in (2, 3)]
    await until(lambda: len(steps_of(source)) == 3)
    says_moved(source, replicas)
    holder = harness.router.find("tiny", None).clients[str(replicas.index(source))]
    await until(lambda: not holder.is_ready)
    late = asyncio.create_task(harness.dispatch(step(4)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert steps_of(successor) == []
    source.service.failure = SequenceMoved("another replica has it")
    source.service.gate.set()
    assert await asyncio.gather(*early, late) == [4, 6, 8]
    assert [asked.request_id for asked in successor.service.requests] == [
        "request-2",
        "request-3",
        "request-4",
    ]


@pytest.mark.parametrize("has_told", [True, False])
async def test_a_step_that_is_lost_with_its_replica_follows_only_if_that_told_of_a_successor(
    harness: RouterHarness, *, has_told: bool
) -> None:
    """All that ran was answered before the replica told."""
    replicas = [await harness.start() for _ in range(2)]
    source, successor = await moved_from(harness, replicas, "1")
    asked = asyncio.create_task(harness.dispatch(step(2)))
    await until(lambda: len(steps_of(source)) == 2)
    if has_told:
        says_moved(source, replicas)
        holder = harness.router.find("tiny", None).clients[str(replicas.index(source))]
        await until(lambda: not holder.is_ready)
    hang_up(source)
    if has_told:
        assert await asked == 4
    else:
        with pytest.raises(ReplicaLost):
            await asked
    assert len(steps_of(successor)) == has_told


async def test_a_start_that_crosses_a_goodbye_begins_elsewhere(harness: RouterHarness) -> None:
    replicas = [await harness.start() for _ in range(2)]
    for n in range(8):
        draining = replicas[n % 2]
        draining.service.failure, replicas[1 - n % 2].service.failure = (
            ShuttingDown("it goes away", 1),
            None,
        )
        assert await harness.dispatch(step(n, str(n), starts=True)) == 2 * n
        assert await harness.dispatch(step(1, str(n))) == 2


async def test_steps_that_follow_for_ever_end(harness: RouterHarness) -> None:
    replicas = [await harness.start() for _ in range(3)]
    for replica in replicas:
        replica.service.failure = SequenceMoved("another replica has it")
    with pytest.raises(SequenceLost):
        await harness.dispatch(step(1))
    assert [len(steps_of(replica)) for replica in replicas] == [1, 1, 1]
