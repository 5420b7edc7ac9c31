"""Loads and unloads models of a running platform, one change at a time, so that what serves is never worse for it."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal, Protocol

from headrace.errors import BadRequest, Conflict, HeadraceError, NotReady, StartFailed, UnknownModel
from headrace.fleet.instructions import IndexEntry, Instruction, Outcome
from headrace.operation.catalogue import Found, digest_of, model_names, versions_of
from headrace_models.reasons import without_paths
from headrace_models.repository import ModelVersion, version_order

__all__ = ["Applications", "Members", "Operator"]

log = logging.getLogger(__name__)

# A replica that runs has reported within a second; one that was stopped has left before it ended.
_MEMBER_S = 20.0
# How often at most a version is deployed again that was given up. Its replicas' own pauses are the directory's.
_AGAIN_S = 60.0

Key = tuple[str, str]  # name and version
UnderWay = Literal["LOADING", "UNLOADING"]


class Applications(Protocol):
    """Where model versions run."""

    def deploy(self, version: ModelVersion) -> None: ...

    def wait_until_running(self, version: ModelVersion) -> str:
        """Empty once it runs, or in one line why it does not; bounded."""
        ...

    def delete(self, version: ModelVersion) -> None:
        """Let it answer what it accepted, and end it."""
        ...

    def given_up(self, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        """Those that do not run and that nobody but us will start again: they failed too often, or are missing."""
        ...


class Members(Protocol):
    """Who knows what is served."""

    def expect(self, models: Sequence[str]) -> None:
        """From now on, ready means that these are."""
        ...

    def is_served(self, model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:
        """Wait until gateways use a replica of this version, or know that there is none; False if not in time."""
        ...

    def serving(self) -> set[Key]: ...

    def troubles(self) -> Mapping[Key, str]:
        """Which versions fail again and again, and why."""
        ...

    def forgive(self, model: str) -> None:
        """Hold no failure against a model any more: start its replicas at once."""
        ...


@dataclass(frozen=True, slots=True)
class _Loaded:
    version: ModelVersion
    digest: str


class Operator:
    """Carries out orders. `load` and `unload` must not run beside each other; `index` may beside either."""

    def __init__(
        self,
        repository: Path,
        applications: Applications,
        members: Members,
        versions: Sequence[ModelVersion],
        failed: Mapping[str, str],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`versions` were deployed at the start; `failed` says of which models they did not start, and why."""
        self._repository = repository
        self._applications = applications
        self._members = members
        self._loaded = {
            v.spec.name: _Loaded(v, digest_of(v)) for v in versions if v.spec.name not in failed
        }
        self._under_way: Mapping[Key, UnderWay] = {}
        self._clock = clock
        self._mended_s: dict[Key, float] = {}
        self._failed = {
            _key(v): without_paths(failed[v.spec.name]) for v in versions if v.spec.name in failed
        }

    @property
    def models(self) -> list[str]:
        """The names of what should be served now."""
        return sorted(self._loaded)

    def carry_out(self, order: Instruction) -> Outcome:
        """What came of it. An error of ours is told, any other is logged and only its kind of failure told."""
        try:
            if order.kind == "index":
                return Outcome(self.index())
            (self.load if order.kind == "load" else self.unload)(order.model)
        except HeadraceError as error:
            log.warning("%s %s: %s", order.kind, order.model, error)
            return Outcome.of(error)
        except Exception:
            log.exception("%s %s failed", order.kind, order.model)
            return Outcome.of(HeadraceError("the order failed"))
        log.info("%s %s: done", order.kind, order.model)
        return Outcome()

    def index(self) -> tuple[IndexEntry, ...]:
        """Every version of the repository and every one that serves, by name and oldest first."""
        serving, troubles, under_way = (
            self._members.serving(),
            self._members.troubles(),
            self._under_way,
        )
        shelf = {
            (f.name, f.version): f
            for n in model_names(self._repository)
            for f in versions_of(self._repository, n)
        }
        keys = sorted(
            {*shelf, *serving, *under_way}, key=lambda key: (key[0], version_order(key[1]))
        )
        return tuple(
            self._entry(
                key,
                shelf.get(key),
                under_way.get(key),
                is_serving=key in serving,
                trouble=troubles.get(key),
            )
            for key in keys
        )

    def load(self, name: str) -> None:
        """Serve the newest sound version of a model, and end the one that served before when the new one answers.

        Raises UnknownModel, BadRequest if it is refused, Conflict for a loaded version with other contents, or
        StartFailed; after each of these, what served before still does.
        """
        found = self._in_repository(name)
        self._members.forgive(name)
        loaded = self._loaded.get(name)
        version = next((f.sound for f in found if f.sound), None)
        if version is None:
            raise BadRequest(
                found[0].reason if found else "the model has no version in the repository"
            )
        if loaded and found[0].reason and _order(version) <= _order(loaded.version):
            raise BadRequest(found[0].reason)
        if loaded and loaded.version.spec.version == version.spec.version:
            self._check_same(loaded, version)
        else:
            self._start(version)
            if loaded:
                self._end(loaded.version)

    def unload(self, name: str) -> None:
        """End a model. Nothing happens if it is not loaded. Raises UnknownModel for one that is not known either."""
        if name not in self._loaded and name not in model_names(self._repository):
            raise UnknownModel("no such model in the repository")
        if loaded := self._loaded.pop(name, None):
            self._members.expect(self.models)
            self._members.forgive(name)
            self._end(loaded.version)

    def mend(self) -> None:
        """Deploy again what is loaded and was given up, each version now and then. Not beside `load` or `unload`."""
        now_s = self._clock()
        versions = [loaded.version for loaded in self._loaded.values()]
        due = [
            v for v in versions if now_s - self._mended_s.get(_key(v), float("-inf")) >= _AGAIN_S
        ]
        for version in self._applications.given_up(due) if due else []:
            log.warning("%s %s was given up: it is deployed again", *_key(version))
            self._mended_s[_key(version)] = now_s
            self._applications.delete(version)
            self._applications.deploy(version)

    def _in_repository(self, name: str) -> list[Found]:
        if name not in model_names(self._repository):
            raise UnknownModel("no such model in the repository")
        return versions_of(self._repository, name)

    def _check_same(self, loaded: _Loaded, version: ModelVersion) -> None:
        number = version.spec.version
        if digest_of(version) != loaded.digest:
            raise Conflict(f"version {number} is loaded with other contents: add a new version")
        if not self._members.is_served(version.spec.name, number, True, _MEMBER_S):
            raise NotReady(
                f"version {number} is loaded, but no replica of it answers now", retry_after_s=5
            )

    def _start(self, version: ModelVersion) -> None:
        """Run a version and wait until gateways use it. Raises StartFailed, and then nothing of it is left."""
        name, number = key = _key(version)
        self._failed.pop(key, None)
        with self._marked(key, "LOADING"):
            digest = digest_of(version)
            try:
                self._applications.deploy(version)
                reason = without_paths(self._applications.wait_until_running(version))
                if not reason and not self._members.is_served(name, number, True, _MEMBER_S):
                    reason = "it runs, but no gateway hears of it"
                if reason:
                    self._failed[key] = reason
                    raise StartFailed(f"version {number} did not start: {reason}")
            except BaseException:
                self._applications.delete(version)
                with suppress(HeadraceError):
                    self._members.forgive(name)  # what is gone is in no trouble
                raise
        self._loaded[name] = _Loaded(version, digest)
        self._members.expect(self.models)

    def _end(self, version: ModelVersion) -> None:
        name, number = key = _key(version)
        with self._marked(key, "UNLOADING"):
            self._applications.delete(version)
            if not self._members.is_served(name, number, False, _MEMBER_S):
                log.warning("%s %s still serves", name, number)

    @contextmanager
    def _marked(self, key: Key, state: UnderWay) -> Iterator[None]:
        self._under_way = {key: state}
        try:
            yield
        finally:
            self._under_way = {}

    def _entry(
        self,
        key: Key,
        found: Found | None,
        under_way: UnderWay | None,
        *,
        is_serving: bool,
        trouble: str | None,
    ) -> IndexEntry:
        name, version = key
        reason = found.reason if found else "not in the repository any more"
        if under_way:
            return IndexEntry(name, version, under_way, reason)
        if trouble:
            return IndexEntry(name, version, "UNAVAILABLE", trouble)
        if is_serving:
            return IndexEntry(name, version, "READY", reason)
        loaded = self._loaded.get(name)
        if loaded and loaded.version.spec.version == version:
            return IndexEntry(name, version, "UNAVAILABLE", "no replica of it answers now")
        return IndexEntry(
            name, version, "UNAVAILABLE", reason or self._failed.get(key, "not loaded")
        )


def _key(version: ModelVersion) -> Key:
    return version.spec.name, version.spec.version


def _order(version: ModelVersion) -> tuple[int, int, str]:
    return version_order(version.spec.version)
