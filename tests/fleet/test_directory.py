"""The directory as a plain object: live processes, followers that know them, and settings that
reach all.
"""

import asyncio

import pytest
from loadtests.support.model_specs import model_spec

from headrace.channel import Address
from headrace.fleet.calls import NAME
from headrace.fleet.directory import (
    Directory,
    as_fleet,
    as_instruction,
    as_logging,
    as_process,
    as_processes,
    as_replica,
    as_result,
)
from headrace.fleet.entries import Fleet, ProcessEntry, ReplicaEntry
from headrace.fleet.instructions import Instruction, Result
from headrace.telemetry.logs import LogSettings
from headrace_models.spec import ModelSpec


def spec(name: str, version: str) -> ModelSpec:
    return model_spec(name, version)


@pytest.fixture
def directory() -> Directory:
    return Directory(["tiny"], gather_s=0)


async def report(
    directory: Directory, process_id: str, role: str, version: str | None = None
) -> LogSettings:
    process = as_process.dump_json(ProcessEntry(process_id, role, "127.0.0.1:1", 1, "here"))
    entry = (
        ReplicaEntry(
            process_id, spec("tiny", version), (), Address("here", "/s", "127.0.0.1", 1), "onnx"
        )
        if version
        else None
    )
    return as_logging.validate_json(
        await directory.report(process, as_replica.dump_json(entry) if entry else b"")
    )


async def fleet(directory: Directory, revision: int = 0, process_id: str = "") -> Fleet:
    return as_fleet.validate_json(await directory.follow(revision, 60, process_id))


async def follower(
    directory: Directory, process_id: str, role: str = "gateway"
) -> "asyncio.Task[Fleet]":
    """A process that has applied the current revision and waits for the next."""
    await report(directory, process_id, role)
    revision = (await fleet(directory)).revision
    task = asyncio.create_task(fleet(directory, revision, process_id))
    await asyncio.sleep(0.001)
    return task


async def test_a_follower_learns_of_replicas_that_come_and_leave(
    directory: Directory,
) -> None:
    waiting = await follower(directory, "g")
    await report(directory, "r", "replica", "1")
    assert [r.id for r in (await waiting).replicas] == ["r"]
    await directory.leave("r")
    assert (await fleet(directory)).replicas == ()


async def test_a_directory_that_came_back_is_followed_when_all_have_had_time_to_report() -> None:
    """Otherwise gateways would drop every replica that has not reported yet."""
    directory = Directory(["tiny"])
    following = asyncio.create_task(fleet(directory))
    await asyncio.sleep(1)
    await report(directory, "r", "replica", "1")
    assert [r.id for r in (await following).replicas] == ["r"]


async def test_a_report_that_says_nothing_new_wakes_nobody(directory: Directory) -> None:
    waiting = await follower(directory, "g")
    await report(directory, "g", "gateway")
    await directory.expect(["tiny"])
    await asyncio.sleep(1)
    assert not waiting.done()
    await directory.expect(["tiny", "more"])
    assert (await waiting).models == ("tiny", "more")


async def test_a_revision_is_applied_when_every_follower_confirms_it(directory: Directory) -> None:
    waiting = [await follower(directory, "g1"), await follower(directory, "g2")]
    await report(directory, "r", "replica", "1")
    revision = (await waiting[1]).revision
    applied = asyncio.create_task(directory.applied(revision, 60))
    told = [asyncio.create_task(fleet(directory, revision, "g1"))]
    await asyncio.sleep(0.001)
    assert not applied.done()
    told.append(asyncio.create_task(fleet(directory, revision, "g2")))
    assert await applied
    await _end(*told)


async def test_the_wait_for_a_follower_that_does_not_confirm_is_bounded(
    directory: Directory,
) -> None:
    await report(directory, "g", "gateway")
    assert not await directory.applied(2, 3)


async def test_a_version_is_served_when_its_replica_has_reported_and_the_gateways_know(
    directory: Directory,
) -> None:
    waiting = await follower(directory, "g")
    served = asyncio.create_task(directory.served("tiny", "2", True, 60))
    await report(directory, "r", "replica", "2")
    revision = (await waiting).revision
    assert not served.done()
    told = asyncio.create_task(fleet(directory, revision, "g"))
    assert await served
    await _end(told)


async def test_a_version_whose_replica_does_not_report_is_not_served(directory: Directory) -> None:
    await report(directory, "r", "replica", "1")
    assert not await directory.served("tiny", "2", True, 3)
    assert not await directory.served("tiny", "1", False, 3)


async def test_a_replica_is_let_go_when_no_gateway_uses_it_any_more(directory: Directory) -> None:
    waiting = await follower(directory, "g")
    await report(directory, "r", "replica", "1")
    waiting = asyncio.create_task(fleet(directory, (await waiting).revision, "g"))
    await asyncio.sleep(0.001)
    leaving = asyncio.create_task(directory.leave("r"))
    revision = (await waiting).revision
    assert not leaving.done()
    told = asyncio.create_task(fleet(directory, revision, "g"))
    await leaving
    await _end(told)


async def test_a_gateway_that_leaves_waits_for_nobody_and_nobody_for_it(
    directory: Directory,
) -> None:
    await report(directory, "r", "replica", "1")
    await report(directory, "g", "gateway")
    async with asyncio.timeout(0.1):
        await directory.leave("g")
        await directory.leave("g")
        await directory.leave("r")


async def test_a_replica_that_a_gateway_found_ended_is_left_out_at_once(
    directory: Directory,
) -> None:
    waiting = await follower(directory, "g")
    await report(directory, "r", "replica", "1")
    waiting = asyncio.create_task(fleet(directory, (await waiting).revision, "g"))
    await asyncio.sleep(0.001)
    await directory.ended("r", "gone")
    await directory.ended("r", "gone")
    assert (await waiting).replicas == ()


async def test_log_settings_reach_followers_at_once_and_the_others_with_their_next_report(
    directory: Directory,
) -> None:
    quiet = LogSettings(log_info=False)
    waiting = await follower(directory, "g")
    changing = asyncio.create_task(directory.set_logging(as_logging.dump_json(quiet)))
    told = await waiting
    assert told.logging == quiet
    again = asyncio.create_task(fleet(directory, told.revision, "g"))
    assert as_logging.validate_json(await changing) == quiet
    assert await report(directory, "r", "replica", "1") == quiet
    await _end(again)


async def test_an_instruction_goes_to_the_operator_and_its_result_comes_back(
    directory: Directory,
) -> None:
    taking = asyncio.create_task(directory.take_instruction("change", 60))
    await asyncio.sleep(0)
    asked = asyncio.create_task(
        directory.give_instruction(as_instruction.dump_json(Instruction("unload", "tiny")), 60)
    )
    instruction = as_instruction.validate_json(await taking)
    assert (instruction.kind, instruction.model) == ("unload", "tiny")
    await directory.resolve_instruction(
        instruction.id, as_result.dump_json(Result(code="conflict", message="no"))
    )
    assert as_result.validate_json(await asked).code == "conflict"


async def test_without_an_operator_an_instruction_is_refused(
    directory: Directory,
) -> None:
    answer = await directory.give_instruction(as_instruction.dump_json(Instruction("index")), 60)
    assert as_result.validate_json(answer).code == "unavailable"
    assert await directory.take_instruction("index", 0.1) == b""
    await directory.close_instructions()


async def _end(*tasks: "asyncio.Task[Fleet]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def start(directory: Directory, process_id: str, pid: int = 1) -> list[str]:
    """Begin to start a replica; gives the others that may have died."""
    process = as_process.dump_json(ProcessEntry(process_id, "replica", "", pid, "here"))
    return [
        other.id
        for other in as_processes.validate_json(await directory.begin(process, "tiny", "1"))
    ]


async def crash(directory: Directory, times: int) -> None:
    for n in range(times):
        await asyncio.sleep(20)
        await report(directory, f"r{n}", "replica", "1")
        await directory.ended(f"r{n}", "its process ended unexpectedly")


@pytest.fixture
async def timed() -> Directory:
    """On the virtual clock."""
    return Directory(["tiny"], gather_s=0, clock=asyncio.get_running_loop().time)


async def test_a_start_waits_after_unexpected_ends_and_an_operator_lets_it_go(
    timed: Directory,
) -> None:
    loop = asyncio.get_running_loop()
    await crash(timed, 6)
    began_s = loop.time()
    assert await timed.may_start("tiny", "2", 60)
    assert loop.time() == began_s
    assert not await timed.may_start("tiny", "1", 3)
    assert await timed.may_start("tiny", "1", 60)
    assert loop.time() == began_s + 16
    await crash(timed, 1)
    starting = asyncio.create_task(timed.may_start("tiny", "1", 60))
    await asyncio.sleep(1)
    assert not starting.done()
    await timed.forgive("tiny")
    await asyncio.sleep(0.001)
    assert starting.done()


async def test_all_learn_of_trouble_and_of_its_end(timed: Directory) -> None:
    await crash(timed, 3)
    (trouble,) = (await fleet(timed)).troubles
    assert trouble.reason.startswith("its process ended unexpectedly")
    following = await follower(timed, "g")
    for _ in range(301):
        await asyncio.sleep(1)
        await report(timed, "r", "replica", "1")
        await report(timed, "g", "gateway")
    told = await following  # that the replica came
    assert told.troubles
    assert (await fleet(timed)).troubles == ()


async def test_a_replica_that_leaves_is_trouble_only_if_it_gives_a_reason(
    timed: Directory,
) -> None:
    for why in ["", "no inference has succeeded for 20 s"]:
        for n in range(3):
            await asyncio.sleep(20)
            await report(timed, f"r{n}", "replica", "1")
            await timed.leave(f"r{n}", why)
        assert [t.reason for t in (await fleet(timed)).troubles] == [
            f"{why}; 3 times recently"
        ] * bool(why)


async def test_starts_that_fail_are_trouble_with_the_reason_without_paths(timed: Directory) -> None:
    for n in range(3):
        await asyncio.sleep(20)
        await start(timed, f"r{n}")
        await timed.ended(f"r{n}", "it does not start: /a/b/model.toml:1: no")
        await timed.ended(f"r{n}", "said twice")
    assert (await fleet(timed)).troubles[
        0
    ].reason == "it does not start: model.toml:1: no; 3 times recently"


async def test_a_replica_that_starts_learns_of_others_that_may_have_died_unnoticed(
    timed: Directory,
) -> None:
    assert await start(timed, "a") == []
    assert await start(timed, "b") == ["a"]
    await report(timed, "b", "replica", "1")
    assert await start(timed, "c") == ["b", "a"]
    await timed.ended("a", "its process ended unexpectedly")
    await timed.ended("b", "its process ended unexpectedly")
    assert await start(timed, "d") == ["c"]
    assert (await fleet(timed)).replicas == ()


async def test_a_directory_that_did_not_run_calls_nobody_silent(timed: Directory) -> None:
    await report(timed, "r", "replica", "1")
    await report(timed, "g", "gateway")
    await asyncio.sleep(100)
    await report(timed, "g", "gateway")
    assert [r.id for r in (await fleet(timed)).replicas] == ["r"]
    for _ in range(31):
        await asyncio.sleep(1)
        await report(timed, "g", "gateway")
    assert (await fleet(timed)).replicas == ()


def test_other_methods_of_the_directory_need_another_number_in_its_name() -> None:
    """A directory of another release may live on a cluster under the name that it had there."""
    methods = {name for name in vars(Directory) if not name.startswith("_")}
    assert (NAME, methods) == (
        "headrace-directory-2",
        {
            *("expect", "report", "begin", "may_start", "forgive", "leave", "ended"),
            *("follow", "applied", "served", "set_logging"),
            *("give_instruction", "take_instruction", "resolve_instruction", "close_instructions"),
        },
    )
