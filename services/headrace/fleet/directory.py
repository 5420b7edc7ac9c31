"""The fleet's directory: an actor to which all report, and which gateways and admin port follow.

Reports double as heartbeats, so the directory may die and restart empty: within a period every
process has reported again. Only then does it answer followers, so that gateways keep what they
know; log settings return to their defaults. Values cross as JSON, not as pickled objects of ours.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from pydantic import TypeAdapter

from headrace.errors import HeadraceError
from headrace.fleet.entries import Fleet, ProcessEntry, ReplicaEntry, Trouble
from headrace.fleet.instructions import Instruction, Instructions, QueueName, Result
from headrace.fleet.troubles import Troubles
from headrace.telemetry.logs import LogSettings
from headrace_models.names import VersionId
from headrace_models.reasons import sentence

__all__ = [
    "REPORT_PERIOD_S",
    "Directory",
    "as_fleet",
    "as_instruction",
    "as_logging",
    "as_process",
    "as_processes",
    "as_replica",
    "as_result",
]

REPORT_PERIOD_S = 1.0
# A process that does not report for this long is left out: on a starved machine reports are seconds
# late. The end of a replica's process is known at once, from gateways that find nobody at its
# address.
_LIFE_S = 30.0
# A new directory collects reports for this long before it answers.
GATHER_S = 5 * REPORT_PERIOD_S
# A replica that leaves, and a change of log settings, wait at most this long until all followers
# know.
_LEAVE_S = 2.0
_SETTINGS_S = 5.0
# Without any report for this long, the directory itself was stopped: then no process counts as
# silent.
_STALL_S = 5.0
_MAX_STARTS = 1000
# Timers may be early by less than this.
_NO_PAUSE_S = 0.001
_FOLLOWERS = frozenset({"gateway", "admin"})

as_process = TypeAdapter(ProcessEntry)
as_processes = TypeAdapter(list[ProcessEntry])
as_replica = TypeAdapter(ReplicaEntry)
as_fleet = TypeAdapter(Fleet)
as_logging = TypeAdapter(LogSettings)
as_instruction = TypeAdapter(Instruction)
as_result = TypeAdapter(Result)


@dataclass(frozen=True, slots=True)
class _Member:
    """A process that reports, and the replica in it, if it is one."""

    process: ProcessEntry
    replica: ReplicaEntry | None
    reported_s: float

    def serves(self, key: VersionId) -> bool:
        return self.replica is not None and _key(self.replica) == key


@dataclass(frozen=True, slots=True)
class _Start:
    """A replica that is starting and has not reported yet."""

    process: ProcessEntry
    key: VersionId


class Directory:
    """The processes that live, and the instructions to the operator.

    `models` are the names that should be served.
    """

    def __init__(
        self, models: list[str], gather_s: float = GATHER_S, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        self._gathered_s = clock() + gather_s
        self._models = tuple(models)
        self._members: dict[str, _Member] = {}
        self._last_report_s = clock()
        self._starting: dict[str, _Start] = {}
        self._troubles = Troubles(clock)
        self._declared: tuple[Trouble, ...] = ()
        self._logging = LogSettings()
        self._instructions = Instructions()
        self._revision = 1
        self._applied: dict[str, int] = {}
        self._changed = asyncio.Condition()

    async def expect(self, models: list[str]) -> None:
        """Set the names of the models that should be served."""
        if self._models != tuple(models):
            self._models = tuple(models)
            self._troubles.retain(models)
            await self._publish()

    async def report(self, process: bytes, replica: bytes) -> bytes:
        """Record that a process lives, and serves `replica` if that is not empty.

        Returns the current log settings.
        """
        entry = as_process.validate_json(process)
        is_new = entry.id not in self._members
        served = as_replica.validate_json(replica) if replica else None
        silent = self._silent()
        for process_id in silent:
            self._lose(process_id, "a replica stopped reporting")
        self._members[entry.id] = _Member(entry, served, self._clock())
        self._starting.pop(entry.id, None)
        if served:
            self._troubles.serves(_key(served))
        self._troubles.forget_sound()
        if is_new or silent or self._troubles.declared() != self._declared:
            await self._publish()
        return as_logging.dump_json(self._logging)

    async def begin(self, process: bytes, model: str, version: str) -> bytes:
        """Record that a replica starts.

        Returns the others of its version on its node: they may have died unnoticed.
        """
        entry = as_process.validate_json(process)
        key = (model, version)
        others = [member.process for member in self._members.values() if member.serves(key)]
        others += [start.process for start in self._starting.values() if start.key == key]
        if len(self._starting) >= _MAX_STARTS:
            del self._starting[next(iter(self._starting))]
        self._starting[entry.id] = _Start(entry, key)
        return as_processes.dump_json([other for other in others if other.node == entry.node])

    async def may_start(self, model: str, version: str, timeout_s: float) -> bool:
        """Wait out a version's pause after unexpected ends; False if that takes too long."""
        until_s = self._clock() + timeout_s
        while (pause_s := self._troubles.pause_s((model, version))) > _NO_PAUSE_S:
            if self._clock() >= until_s:
                return False
            await self._until(
                lambda: not self._troubles.pause_s((model, version)),
                min(pause_s, max(0.0, until_s - self._clock())),
            )
        return True

    async def forgive(self, model: str) -> None:
        """Forget a model's unexpected ends, so that its replicas start at once."""
        self._troubles.forgive(model)
        await self._publish()

    async def leave(self, process_id: str, reason: str = "") -> None:
        """Remove a process that ends, for a `reason` if no operator asked it to.

        For a replica this returns when no gateway sends it anything more, or after a moment.
        """
        if process_id not in self._members:
            return
        replica = self._members[process_id].replica
        if reason:
            self._lose(process_id, reason)
        else:
            self._forget(process_id)
        await self._publish()
        if replica:
            await self.applied(self._revision, _LEAVE_S)

    async def ended(self, process_id: str, reason: str) -> None:
        """Remove a replica that ended unexpectedly, by its own report or another process's."""
        if process_id in self._members:
            self._lose(process_id, reason)
            await self._publish()
        elif start := self._starting.pop(process_id, None):
            self._record_end(start.key, reason)
            if self._troubles.declared() != self._declared:
                await self._publish()

    async def follow(self, revision: int, timeout_s: float, process_id: str = "") -> bytes:
        """The fleet as JSON, at once if it is not at `revision`, otherwise after a change.

        By this call the process says that it has applied `revision`.
        """
        await asyncio.sleep(max(0.0, self._gathered_s - self._clock()))
        if process_id and revision <= self._revision:
            self._applied[process_id] = revision
            await self._notify()
        await self._until(lambda: self._revision != revision, timeout_s)
        members = list(self._members.values())
        fleet = Fleet(
            revision=self._revision,
            models=self._models,
            replicas=tuple(member.replica for member in members if member.replica),
            processes=tuple(member.process for member in members),
            logging=self._logging,
            troubles=tuple(t for t in self._declared if t.model in self._models),
        )
        return as_fleet.dump_json(fleet)

    async def applied(self, revision: int, timeout_s: float) -> bool:
        """Wait until every follower has applied this revision; False when the time is up first."""
        return await self._until(lambda: self._is_applied(revision), timeout_s)

    async def served(self, model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:
        """Wait until a replica serves this version, or none does, and every gateway acts on it;
        False if not in time.

        A gateway that does not confirm delays this for a moment, but does not make it False.
        """
        is_reached = await self._until(
            lambda: self._serves((model, version)) == is_wanted, timeout_s
        )
        if is_reached:
            await self.applied(self._revision, _SETTINGS_S)
        return is_reached

    async def set_logging(self, settings: bytes) -> bytes:
        """Change the log settings of all processes; replicas get them with their next report."""
        self._logging = as_logging.validate_json(settings)
        await self._publish()
        await self.applied(self._revision, _SETTINGS_S)
        return as_logging.dump_json(self._logging)

    async def give_instruction(self, instruction: bytes, timeout_s: float) -> bytes:
        """Have the operator carry out an instruction; its result may be an error."""
        try:
            result = await self._instructions.give(
                as_instruction.validate_json(instruction), timeout_s
            )
        except HeadraceError as error:
            result = Result.of(error)
        return as_result.dump_json(result)

    async def take_instruction(self, queue: QueueName, timeout_s: float) -> bytes:
        """For the operator: a queue's oldest instruction; empty if none came in time."""
        instruction = await self._instructions.take(queue, timeout_s)
        return as_instruction.dump_json(instruction) if instruction else b""

    async def resolve_instruction(self, instruction_id: int, result: bytes) -> None:
        self._instructions.resolve(instruction_id, as_result.validate_json(result))

    async def close_instructions(self) -> None:
        await self._instructions.close()

    def _silent(self) -> list[str]:
        """The processes that have not reported for too long, although others have."""
        now_s = self._clock()
        is_stalled = now_s - self._last_report_s > _STALL_S
        self._last_report_s = now_s
        if is_stalled:
            for process_id, member in self._members.items():
                self._members[process_id] = replace(member, reported_s=now_s)
        return [key for key, member in self._members.items() if now_s - member.reported_s > _LIFE_S]

    def _lose(self, process_id: str, reason: str) -> None:
        """Forget a process that ended unexpectedly."""
        replica = self._members[process_id].replica
        self._forget(process_id)
        if replica:
            self._record_end(_key(replica), reason)

    def _record_end(self, key: VersionId, reason: str) -> None:
        self._troubles.ended(key, sentence(reason), is_down=not self._serves(key))

    def _forget(self, process_id: str) -> None:
        del self._members[process_id]
        self._applied.pop(process_id, None)

    def _serves(self, key: VersionId) -> bool:
        return any(member.serves(key) for member in self._members.values())

    def _is_applied(self, revision: int) -> bool:
        return all(
            self._applied.get(process_id, 0) >= revision
            for process_id, member in self._members.items()
            if member.process.role in _FOLLOWERS
        )

    async def _until(self, is_reached: Callable[[], bool], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(is_reached)
        except TimeoutError:
            return False
        return True

    async def _publish(self) -> None:
        self._revision += 1
        self._declared = self._troubles.declared()
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _key(replica: ReplicaEntry) -> VersionId:
    return replica.spec.name, replica.spec.version
