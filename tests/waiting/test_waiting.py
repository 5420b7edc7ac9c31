"""Requests that wait for a replica: real channels on virtual time."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from time import monotonic

import pytest
from tests.channel.replicas import Doubler, Running, request, until
from tests.gateway.router_harness import RouterHarness, fall_silent, speak_again, spec
from tests.gateway.routing.test_router import outcome
from tests.gateway.routing.test_sequence_router import holder_of, step, steps_of
from tests.waiting.conftest import MAX_WAITING

from headrace.channel import Health
from headrace.errors import DeadlineExceeded, NotReady, SequenceLost, UnknownModel
from headrace.gateway.routing.version import Version
from headrace.inference.request import Request

UNREADY, READY = Health(is_ready=False, waiting_rows=0), Health(is_ready=True, waiting_rows=0)
HURT_S = 5.0


def asking(harness: RouterHarness, asked: Request) -> "asyncio.Task[float]":
    return asyncio.create_task(harness.dispatch(asked))


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def seconds_of(what: Awaitable[object]) -> float:
    """The time that it took on the loop's clock."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await what
    return loop.time() - began_s


async def refusal(harness: RouterHarness, version: Version, asked: Request) -> None:
    with pytest.raises(NotReady):
        await harness.router.dispatch(version, asked)


async def silent(harness: RouterHarness) -> Running:
    """The only replica, which is suspect by now."""
    replica = await harness.start()
    fall_silent(replica)
    await asyncio.sleep(HURT_S)
    assert not harness.router.is_ready
    return replica


async def test_a_request_waits_for_its_silent_replica_and_goes_when_that_speaks(
    harness: RouterHarness,
) -> None:
    replica = await silent(harness)
    asked = asking(harness, request(1, seconds=30))
    await turns()
    assert (replica.service.requests, harness.events.waiting()) == ([], 1)
    assert not harness.router.is_ready
    speak_again(replica)
    assert await seconds_of(asked) == 0
    assert (asked.result(), harness.events.waiting(), len(harness.events.waits)) == (2, 0, 1)


async def test_a_request_waits_while_its_replica_does_not_call_itself_ready(
    harness: RouterHarness,
) -> None:
    service = Doubler()
    service.health_now = UNREADY
    await harness.launch(service=service)
    await turns()
    asked = asking(harness, request(1, seconds=30))
    await asyncio.sleep(1)
    service.health_now = READY
    assert await seconds_of(asked) <= 0.5  # the next ping


async def test_who_waits_in_vain_is_refused_with_time_to_spare(harness: RouterHarness) -> None:
    harness.update([])
    replica = await harness.start()
    replica.service.health_now = UNREADY
    await asyncio.sleep(1)
    asked = asyncio.create_task(outcome(asking(harness, request(1, seconds=30))))
    assert await seconds_of(asked) == pytest.approx(20, abs=0.1)
    assert asked.result() is NotReady


async def test_a_silent_replica_is_asked_when_patience_ends_for_a_refusal_would_be_sure(
    harness: RouterHarness,
) -> None:
    await silent(harness)
    # It was asked, and did not answer.
    assert await outcome(asking(harness, request(1, seconds=3))) is DeadlineExceeded


async def test_those_that_wait_go_in_the_order_of_their_coming_and_in_groups(
    harness: RouterHarness,
) -> None:
    replica = await silent(harness)
    replica.service.gate.clear()
    asked = [asking(harness, request(n, seconds=30)) for n in range(90)]
    await turns()
    speak_again(replica)
    await turns(200)
    first = len(replica.service.requests)
    assert 32 <= first < 90  # two of its batches
    late = asking(harness, request(90, seconds=30))
    await turns(200)
    assert len(replica.service.requests) == first  # it does not overtake
    replica.service.gate.set()
    assert await asyncio.gather(*asked, late) == [2 * n for n in range(91)]
    assert [r.request_id for r in replica.service.requests] == [f"request-{n}" for n in range(91)]


async def test_where_a_batch_is_one_request_two_go_at_a_time(harness: RouterHarness) -> None:
    harness.spec_of = lambda version: spec(version).unbatched()
    replica = await silent(harness)
    replica.service.gate.clear()
    asked = [asking(harness, request(n, seconds=30)) for n in range(10)]
    await turns()
    speak_again(replica)
    await turns(200)
    assert len(replica.service.requests) == 2
    replica.service.gate.set()
    assert await asyncio.gather(*asked) == [2 * n for n in range(10)]


async def test_those_that_wait_spread_over_all_replicas_that_are_ready(
    harness: RouterHarness,
) -> None:
    replicas = [await harness.start() for _ in range(3)]
    for replica in replicas:
        fall_silent(replica)
    await asyncio.sleep(HURT_S)
    asked = [asking(harness, request(n, seconds=30)) for n in range(90)]
    await turns()
    for replica in replicas:
        replica.service.gate.clear()
        speak_again(replica)
    await turns(200)
    for replica in replicas:
        replica.service.gate.set()
    await asyncio.gather(*asked)
    counts = sorted(len(replica.service.requests) for replica in replicas)
    assert sum(counts) == 90
    assert counts[0] >= 10


async def test_a_line_ends_though_as_many_come_as_are_answered(harness: RouterHarness) -> None:
    """Else the replica's own order, by keys and deadlines, would never be in force again."""
    replica = await silent(harness)
    asked = [asking(harness, request(n, seconds=30)) for n in range(80)]
    await turns()
    speak_again(replica)
    for n in range(200):
        await turns(12)
        asked.append(asking(harness, request(n, seconds=30)))
    await turns(50)
    assert harness.events.waiting() == 0
    await asyncio.gather(*asked)


async def test_only_so_many_wait_and_the_rest_is_refused_at_once(harness: RouterHarness) -> None:
    await silent(harness)
    waiting = [asking(harness, request(n, seconds=30)) for n in range(MAX_WAITING // 2)]
    await turns()
    refused = asyncio.create_task(outcome(asking(harness, request(1, seconds=30))))
    assert await seconds_of(refused) == 0
    assert refused.result() is NotReady
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    assert harness.events.waiting() == 0


async def test_a_caller_who_leaves_while_waiting_leaves_nothing_and_holds_nobody_up(
    harness: RouterHarness,
) -> None:
    replica = await silent(harness)
    asked = [asking(harness, request(n, seconds=30)) for n in range(40)]
    await turns()
    speak_again(replica)
    for one in asked[::2]:
        one.cancel()
    await asyncio.wait(asked)
    assert [one.result() for one in asked[1::2]] == [2 * n for n in range(1, 40, 2)]
    assert harness.events.waiting() == 0


async def test_what_was_lost_with_the_only_replica_waits_for_its_successor(
    harness: RouterHarness,
) -> None:
    first = await harness.start()
    first.service.gate.clear()
    asked = [asking(harness, request(n, seconds=30)) for n in range(3)]
    await until(lambda: len(first.service.requests) == 3)
    await harness.kill(first)
    harness.update([])
    later = asking(harness, request(3, seconds=30))
    await asyncio.sleep(3)
    harness.entries.clear()
    (await harness.launch()).service.gate.set()
    assert await asyncio.gather(*asked, later) == [0, 2, 4, 6]


async def test_a_version_is_known_while_the_fleet_expects_its_model_and_not_longer(
    harness: RouterHarness,
) -> None:
    await harness.start()
    version = harness.router.find("tiny", "1")
    harness.update([])
    await turns()
    assert harness.router.find("tiny", "1") is version
    assert not harness.router.is_ready
    asked = asyncio.create_task(outcome(asking(harness, request(1, seconds=30))))
    await turns()
    harness.update([], models=())
    assert await seconds_of(asked) == 0
    assert asked.result() is NotReady
    with pytest.raises(UnknownModel):
        harness.router.find("tiny", None)


@pytest.mark.parametrize("asked", [request(1, seconds=30), step(1, starts=True)])
async def test_nobody_waits_for_a_version_that_is_not_served_any_more(
    harness: RouterHarness, asked: Request
) -> None:
    await harness.start()
    version = harness.router.find("tiny", "1")
    harness.update([])
    await turns()
    asked.deadline_s = monotonic() + 30
    before = asyncio.create_task(refusal(harness, version, asked))
    await turns()
    assert not before.done()
    harness.update([], models=())
    assert await seconds_of(before) == 0
    # The request was read before, and is sent now.
    assert await seconds_of(refusal(harness, version, asked)) == 0


async def test_who_was_read_by_a_spec_that_is_gone_does_not_wait_for_another(
    harness: RouterHarness,
) -> None:
    await harness.start()
    version = harness.router.find("tiny", "1")
    harness.update([])
    await turns()
    harness.entries.clear()
    harness.spec_of = lambda version: spec(version).unbatched()
    before = asyncio.create_task(refusal(harness, version, request(1, seconds=30)))
    await turns()
    service = Doubler()
    service.health_now = UNREADY
    await harness.launch(service=service)
    assert await seconds_of(before) == 0
    assert await seconds_of(refusal(harness, version, request(1, seconds=30))) == 0


async def test_a_version_that_another_one_follows_is_forgotten(harness: RouterHarness) -> None:
    await harness.start("1")
    await harness.start("2")
    harness.update(harness.entries[1:])
    await turns()
    assert list(harness.router.models()["tiny"]) == ["2"]


async def test_a_replica_whose_process_ended_is_reported_and_not_waited_for(
    harness: RouterHarness,
) -> None:
    replica = await harness.start()
    assert await harness.dispatch(step(1, starts=True)) == 2
    fall_silent(replica)
    await asyncio.sleep(HURT_S)
    asked = asyncio.create_task(outcome(asking(harness, step(2))))
    await turns()
    assert not asked.done()  # its state may still be there
    await harness.kill(replica)
    assert await seconds_of(asked) == 0
    assert asked.result() is SequenceLost
    assert harness.ended == ["0"]


async def test_a_step_waits_for_its_silent_replica_and_goes_nowhere_else(
    harness: RouterHarness,
) -> None:
    replicas = [await harness.start() for _ in range(2)]
    home = replicas[await holder_of(harness, replicas, "1")]
    (other,) = [r for r in replicas if r is not home]
    fall_silent(home)
    await asyncio.sleep(HURT_S)
    asked = asking(harness, step(2))
    await turns()
    assert not asked.done()
    speak_again(home)
    assert await seconds_of(asked) == 0
    assert (asked.result(), steps_of(other)) == (4, [])


async def test_a_gateway_that_did_not_run_for_long_suspects_nobody(harness: RouterHarness) -> None:
    """Pings that it did not send are not unanswered."""
    await harness.start()
    asyncio.get_running_loop().now_s += 60  # type: ignore[attr-defined] # virtual
    await turns()
    assert harness.router.is_ready
    assert await harness.dispatch(request(1)) == 2


async def test_a_replica_of_another_node_that_refuses_is_not_taken_for_ended(
    harness: RouterHarness,
) -> None:
    """A network between the nodes may have refused for it."""
    replica = await harness.launch()
    there = replace(
        harness.entries[0], id="there", address=replace(replica.address, node="elsewhere")
    )
    harness.update([there])
    await harness.router.wait_linked()
    await turns()
    assert harness.router.is_ready
    await harness.kill(replica)
    await asyncio.sleep(1)
    assert harness.ended == []
    assert harness.router.models()["tiny"]["1"].members == {"there"}
