"""Loads and unloads models of a running platform, one change at a time.

After a failed change, the old version serves.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

from headrace.errors import BadRequest, Conflict, HeadraceError, NotReady, StartFailed, UnknownModel
from headrace.fleet.instructions import IndexEntry, Instruction, Result
from headrace.operation.catalogue import Found, digest_of, model_names, versions_of
from headrace.operation.contracts import Applications, Members
from headrace_models.names import VersionId
from headrace_models.reasons import without_paths
from headrace_models.repository import ModelVersion, version_order

__all__ = ["Operator"]

log = logging.getLogger(__name__)

# A running replica reports within a second; a stopped one left before it ended.
_MEMBER_S = 20.0
# A version that Serve gave up is deployed again at most this often; the directory paces its
# replicas' starts.
_REDEPLOY_PERIOD_S = 60.0

UnderWay = Literal["LOADING", "UNLOADING"]


@dataclass(frozen=True, slots=True)
class _Loaded:
    version: ModelVersion
    digest: str


class Operator:
    """Carries out instructions.

    `load`, `unload` and `redeploy` must not run at the same time; `index` may run any time.
    """

    def __init__(
        self,
        repository: Path,
        applications: Applications,
        members: Members,
        versions: Sequence[ModelVersion],
        failed: Mapping[str, str],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`versions` were deployed; `failed` has reasons by the models that did not start."""
        self._repository = repository
        self._applications = applications
        self._members = members
        self._loaded = {
            v.spec.name: _Loaded(v, digest_of(v)) for v in versions if v.spec.name not in failed
        }
        self._under_way: Mapping[VersionId, UnderWay] = {}
        self._clock = clock
        self._redeployed_s: dict[VersionId, float] = {}
        self._failed = {
            _key(v): without_paths(failed[v.spec.name]) for v in versions if v.spec.name in failed
        }

    @property
    def models(self) -> list[str]:
        """The names of the models that should be served now."""
        return sorted(self._loaded)

    def carry_out(self, instruction: Instruction) -> Result:
        """Our errors become the result; others are logged, and the result is a general message."""
        try:
            if instruction.kind == "index":
                return Result(self.index())
            if instruction.kind == "load":
                self.load(instruction.model)
            else:
                self.unload(instruction.model)
        except HeadraceError as error:
            log.warning("%s %s: %s", instruction.kind, instruction.model, error)
            return Result.of(error)
        except Exception:
            log.exception("%s %s failed", instruction.kind, instruction.model)
            return Result.of(
                HeadraceError(
                    f"the instruction to {instruction.kind} failed unexpectedly; "
                    "the output of `headrace serve` has the reason"
                )
            )
        log.info("%s %s: done", instruction.kind, instruction.model)
        return Result()

    def index(self) -> tuple[IndexEntry, ...]:
        """Every version of the repository and every one that serves, by name and oldest first."""
        serving = self._members.serving()
        troubles = self._members.troubles()
        under_way = self._under_way
        stored: dict[VersionId, Found] = {}
        for name in model_names(self._repository):
            stored |= {(f.name, f.version): f for f in versions_of(self._repository, name)}
        keys = sorted(
            {*stored, *serving, *under_way}, key=lambda key: (key[0], version_order(key[1]))
        )
        return tuple(
            self._entry(
                key,
                stored.get(key),
                under_way.get(key),
                is_serving=key in serving,
                trouble=troubles.get(key),
            )
            for key in keys
        )

    def load(self, name: str) -> None:
        """Serve the newest sound version of a model, then end the one before.

        Raises UnknownModel, BadRequest if the version is refused, Conflict if it is loaded with
        other content, or StartFailed; after each of these, the version before still serves.
        """
        found = self._in_repository(name)
        self._members.forgive(name)
        loaded = self._loaded.get(name)
        version = next((f.sound for f in found if f.sound), None)
        if version is None:
            raise BadRequest(
                found[0].reason if found else "the model has no version in the repository; add one"
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
        """End a model; does nothing if it is not loaded.

        Raises UnknownModel if the repository has no such model either.
        """
        if name not in self._loaded and name not in model_names(self._repository):
            raise UnknownModel("no such model in the repository")
        if loaded := self._loaded.pop(name, None):
            self._members.expect(self.models)
            self._members.forgive(name)
            self._end(loaded.version)

    def redeploy(self) -> None:
        """Deploy loaded versions again that Serve gave up, each at most once in a period."""
        now_s = self._clock()
        versions = [loaded.version for loaded in self._loaded.values()]
        due = [
            version
            for version in versions
            if now_s - self._redeployed_s.get(_key(version), float("-inf")) >= _REDEPLOY_PERIOD_S
        ]
        if not due:
            return
        for version in self._applications.given_up(due):
            name, number = _key(version)
            log.warning("Serve gave up %s %s: deploying it again", name, number)
            self._redeployed_s[_key(version)] = now_s
            self._applications.delete(version)
            self._applications.deploy(version)

    def _in_repository(self, name: str) -> list[Found]:
        if name not in model_names(self._repository):
            raise UnknownModel("no such model in the repository")
        return versions_of(self._repository, name)

    def _check_same(self, loaded: _Loaded, version: ModelVersion) -> None:
        number = version.spec.version
        if digest_of(version) != loaded.digest:
            raise Conflict(
                f"version {number} is loaded with other content; add a new version instead"
            )
        if not self._members.is_served(version.spec.name, number, True, _MEMBER_S):
            raise NotReady(
                f"version {number} is loaded, but none of its replicas answers now", retry_after_s=5
            )

    def _start(self, version: ModelVersion) -> None:
        """Run a version and wait until gateways use it.

        Raises StartFailed, after which nothing of it is left.
        """
        key = _key(version)
        name, number = key
        self._failed.pop(key, None)
        with self._marked(key, "LOADING"):
            digest = digest_of(version)
            try:
                self._applications.deploy(version)
                reason = without_paths(self._applications.wait_until_running(version))
                if not reason and not self._members.is_served(name, number, True, _MEMBER_S):
                    reason = "it runs, but no gateway has learned of it"
                if reason:
                    self._failed[key] = reason
                    raise StartFailed(f"version {number} did not start: {reason}")
            except BaseException:
                self._applications.delete(version)
                with suppress(HeadraceError):
                    self._members.forgive(name)  # a deleted version is in no trouble
                raise
        self._loaded[name] = _Loaded(version, digest)
        self._members.expect(self.models)

    def _end(self, version: ModelVersion) -> None:
        name, number = _key(version)
        with self._marked((name, number), "UNLOADING"):
            self._applications.delete(version)
            if not self._members.is_served(name, number, False, _MEMBER_S):
                log.warning("%s %s still serves after its end", name, number)

    @contextmanager
    def _marked(self, key: VersionId, state: UnderWay) -> Iterator[None]:
        self._under_way = {key: state}
        try:
            yield
        finally:
            self._under_way = {}

    def _entry(
        self,
        key: VersionId,
        found: Found | None,
        under_way: UnderWay | None,
        *,
        is_serving: bool,
        trouble: str | None,
    ) -> IndexEntry:
        name, version = key
        reason = found.reason if found else "no longer in the repository"
        if under_way:
            return IndexEntry(name, version, under_way, reason)
        if trouble:
            return IndexEntry(name, version, "UNAVAILABLE", trouble)
        if is_serving:
            return IndexEntry(name, version, "READY", reason)
        loaded = self._loaded.get(name)
        if loaded and loaded.version.spec.version == version:
            return IndexEntry(name, version, "UNAVAILABLE", "none of its replicas answers now")
        return IndexEntry(
            name, version, "UNAVAILABLE", reason or self._failed.get(key, "not loaded")
        )


def _key(version: ModelVersion) -> VersionId:
    return version.spec.name, version.spec.version


def _order(version: ModelVersion) -> tuple[int, int, str]:
    return version_order(version.spec.version)
