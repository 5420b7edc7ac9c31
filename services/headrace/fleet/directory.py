"""The fleet's directory: one actor that every process reports to and that gateways and the admin port follow.

Reports double as heartbeats, so the directory may die and come back empty: within a period everyone has reported
again, and only then is it followed, so that gateways keep what they know; log settings go back to their defaults.
Values cross as JSON, not as pickled objects of ours.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from pydantic import TypeAdapter

from headrace.errors import HeadraceError
from headrace.fleet.entries import Fleet, ProcessEntry, ReplicaEntry, Trouble
from headrace.fleet.instructions import Instruction, Instructions, Lane, Outcome
from headrace.fleet.troubles import Key, Troubles
from headrace.telemetry.logs import LogSettings
from headrace_models.reasons import sentence

__all__ = [
    "REPORT_PERIOD_S",
    "Directory",
    "as_fleet",
    "as_instruction",
    "as_logging",
    "as_outcome",
    "as_process",
    "as_processes",
    "as_replica",
]

REPORT_PERIOD_S = 1.0
# Who does not report for this long is left out: on a starved machine reports come seconds late. That a replica's
# process has ended is known at once, from gateways that find nobody at its address.
_LIFE_S = 30.0
# How long a new directory listens before it says who lives.
GATHER_S = 5 * REPORT_PERIOD_S
# How long a replica that leaves, and log settings that change, wait for those who follow to have heard of it.
_LEAVE_S = 2.0
_SETTINGS_S = 5.0
# After so long without any report it is the directory that did not run: nobody is called silent for that.
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
as_outcome = TypeAdapter(Outcome)


class Directory:
    """Who lives, and the orders to the operator. `models` are the names that should be served."""

    def __init__(
        self, models: list[str], gather_s: float = GATHER_S, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        self._gathered_s = clock() + gather_s
        self._models = tuple(models)
        self._processes: dict[str, tuple[ProcessEntry, ReplicaEntry | None, float]] = {}
        self._heard_s = self._clock()
        self._starting: dict[str, tuple[ProcessEntry, Key]] = {}
        self._troubles = Troubles(clock)
        self._declared: tuple[Trouble, ...] = ()
        self._logging = LogSettings()
        self._orders = Instructions()
        self._revision = 1
        self._applied: dict[str, int] = {}
        self._changed = asyncio.Condition()

    async def expect(self, models: list[str]) -> None:
        if self._models != tuple(models):
            self._models = tuple(models)
            self._troubles.keep(models)
            await self._tell()

    async def report(self, process: bytes, replica: bytes) -> bytes:
        """A process lives, and serves `replica` if that is not empty. Gives the log settings that it should follow."""
        entry = as_process.validate_json(process)
        is_new = entry.id not in self._processes
        served = as_replica.validate_json(replica) if replica else None
        silent = self._silent()
        for key in silent:
            self._lose(key, "a replica was not heard of any more")
        self._processes[entry.id] = (entry, served, self._clock())
        self._starting.pop(entry.id, None)
        if served:
            self._troubles.serves(_key(served))
        self._troubles.settle()
        if is_new or silent or self._troubles.declared() != self._declared:
            await self._tell()
        return as_logging.dump_json(self._logging)

    async def begin(self, process: bytes, model: str, version: str) -> bytes:
        """A replica begins to start. Gives the others of its version on its node, which may have ended unheard."""
        entry, key = as_process.validate_json(process), (model, version)
        members = [
            p for p, replica, _ in self._processes.values() if replica and _key(replica) == key
        ]
        others = [*members, *(p for p, of in self._starting.values() if of == key)]
        if len(self._starting) >= _MAX_STARTS:
            del self._starting[next(iter(self._starting))]
        self._starting[entry.id] = (entry, key)
        return as_processes.dump_json([other for other in others if other.node == entry.node])

    async def may_start(self, model: str, version: str, timeout_s: float) -> bool:
        """Wait until a version that ended unexpectedly may be started again; False if that is not in time."""
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
        """Start its replicas at once, and hold nothing against them."""
        self._troubles.forgive(model)
        await self._tell()

    async def leave(self, process_id: str, trouble: str = "") -> None:
        """A process ends, because of `trouble` if it was not asked to by an operator.

        One that serves is let go when no gateway sends it anything more, or after a moment.
        """
        if process_id not in self._processes:
            return
        _, replica, _ = self._processes[process_id]
        if trouble:
            self._lose(process_id, trouble)
        else:
            self._forget(process_id)
        await self._tell()
        if replica:
            await self.applied(self._revision, _LEAVE_S)

    async def ended(self, process_id: str, reason: str) -> None:
        """A replica that serves or begins to ended unexpectedly: it says so itself, or who found nobody there."""
        if process_id in self._processes:
            self._lose(process_id, reason)
            await self._tell()
        elif began := self._starting.pop(process_id, None):
            self._hold_against(began[1], reason)
            if self._troubles.declared() != self._declared:
                await self._tell()

    async def follow(self, revision: int, timeout_s: float, process_id: str = "") -> bytes:
        """The fleet as JSON, at once if it is not at `revision`, else when it changes or the time is up.

        By asking, the process says that it has applied `revision`.
        """
        await asyncio.sleep(max(0.0, self._gathered_s - self._clock()))
        if process_id and revision <= self._revision:
            self._applied[process_id] = revision
            await self._wake()
        await self._until(lambda: self._revision != revision, timeout_s)
        members = list(self._processes.values())
        replicas = tuple(replica for _, replica, _ in members if replica)
        processes = tuple(process for process, _, _ in members)
        declared = tuple(trouble for trouble in self._declared if trouble.model in self._models)
        return as_fleet.dump_json(
            Fleet(self._revision, self._models, replicas, processes, self._logging, declared)
        )

    async def applied(self, revision: int, timeout_s: float) -> bool:
        """Wait until every process that follows has applied this revision; False when the time is up first."""
        return await self._until(lambda: self._is_applied(revision), timeout_s)

    async def served(self, model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:
        """Wait until a replica serves this version, or none does, and every gateway acts on it; False if not in time.

        A gateway that does not say that it acts on it holds this up for a moment, but does not make it False.
        """
        is_so = await self._until(lambda: self._serves(model, version) == is_wanted, timeout_s)
        if is_so:
            await self.applied(self._revision, _SETTINGS_S)
        return is_so

    async def set_logging(self, settings: bytes) -> bytes:
        """How all processes log from now on: replicas hear of it with their next report."""
        self._logging = as_logging.validate_json(settings)
        await self._tell()
        await self.applied(self._revision, _SETTINGS_S)
        return as_logging.dump_json(self._logging)

    async def order(self, order: bytes, timeout_s: float) -> bytes:
        """Give the operator an order; the outcome, which may be an error, once it is carried out."""
        try:
            outcome = await self._orders.give(as_instruction.validate_json(order), timeout_s)
        except HeadraceError as error:
            outcome = Outcome.of(error)
        return as_outcome.dump_json(outcome)

    async def take_instruction(self, lane: Lane, timeout_s: float) -> bytes:
        """For the operator: the oldest order of a lane; empty if none came in time."""
        order = await self._orders.take(lane, timeout_s)
        return as_instruction.dump_json(order) if order else b""

    async def resolve_instruction(self, order_id: int, outcome: bytes) -> None:
        self._orders.settle(order_id, as_outcome.validate_json(outcome))

    async def close_instructions(self) -> None:
        await self._orders.close()

    def _silent(self) -> list[str]:
        """Who has not reported for too long, though others were heard of."""
        now_s = self._clock()
        is_stalled, self._heard_s = now_s - self._heard_s > _STALL_S, now_s
        if is_stalled:
            self._processes = {key: (p, r, now_s) for key, (p, r, _) in self._processes.items()}
        return [key for key, (_, _, at) in self._processes.items() if now_s - at > _LIFE_S]

    def _lose(self, process_id: str, reason: str) -> None:
        """Forget a process that ended unexpectedly."""
        _, replica, _ = self._processes[process_id]
        self._forget(process_id)
        if replica:
            self._hold_against(_key(replica), reason)

    def _hold_against(self, key: Key, reason: str) -> None:
        self._troubles.ended(key, sentence(reason), is_down=not self._serves(*key))

    def _forget(self, process_id: str) -> None:
        del self._processes[process_id]
        self._applied.pop(process_id, None)

    def _serves(self, model: str, version: str) -> bool:
        served = (r.spec for _, r, _ in self._processes.values() if r)
        return any((spec.name, spec.version) == (model, version) for spec in served)

    def _is_applied(self, revision: int) -> bool:
        followers = (p.id for p, _, _ in self._processes.values() if p.role in _FOLLOWERS)
        return all(self._applied.get(process_id, 0) >= revision for process_id in followers)

    async def _until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(is_so)
        except TimeoutError:
            return False
        return True

    async def _tell(self) -> None:
        self._revision += 1
        self._declared = self._troubles.declared()
        await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _key(replica: ReplicaEntry) -> Key:
    return replica.spec.name, replica.spec.version
