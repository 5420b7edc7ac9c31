"""The models that the gateway serves, and the versions that replicas joined."""

import logging
from collections.abc import Callable, Mapping

from headrace.errors import NotReady, UnknownModel, UnknownVersion
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.routing.version import SILENT, Version
from headrace.gateway.wire.infer import Codec
from headrace.telemetry.events import GatewayEvents
from headrace_models.names import VersionId
from headrace_models.repository import version_order

__all__ = ["ServedModels"]

log = logging.getLogger(__name__)


class ServedModels:
    """Versions by model, newest first. Calls `changed` when one that steps may wait for is gone."""

    def __init__(self, events: GatewayEvents, changed: Callable[[], None]) -> None:
        self._events = events
        self._changed = changed
        self._expected: frozenset[str] | None = None  # None until the fleet is known
        self._troubles: Mapping[VersionId, str] = {}  # with their reasons
        self._reported_troubled: frozenset[str] = frozenset()
        self.versions: dict[str, dict[str, Version]] = {}

    def update(self, fleet: Fleet) -> None:
        """Follow which models the fleet should serve, and which versions are in trouble."""
        self._expected = frozenset(fleet.models)
        self._troubles = {(t.model, t.version): t.reason for t in fleet.troubles}
        for versions in self.versions.values():
            for version in versions.values():
                self._update_trouble(version)
        troubled = self._troubled
        for model in self._reported_troubled | troubled:
            self._events.model_troubled(model, is_troubled=model in troubled)
        self._reported_troubled = troubled

    def _update_trouble(self, version: Version) -> None:
        """Let no request wait for a version in trouble, unless it can answer at this moment."""
        version.trouble = self._troubles.get((version.spec.name, version.spec.version), "")
        if version.trouble and not version.is_ready:
            version.queue.refuse(version.not_ready)
            self._changed()

    def forget_unexpected(self) -> None:
        """Forget the versions without replicas of models that should not be served any more."""
        for name in self.versions.keys() - (self._expected or ()):
            self._forget_empty(name)

    def expect_none(self) -> None:
        self._expected = frozenset()

    @property
    def _troubled(self) -> frozenset[str]:
        """The models that should be served and whose versions are all in trouble."""
        names = {model for model, _ in self._troubles} & (self._expected or frozenset())
        return frozenset(
            n for n in names if all(v.trouble for v in self.versions.get(n, {}).values())
        )

    @property
    def is_ready(self) -> bool:
        """Tell whether all expected models without trouble can answer now, and at least one can."""
        ready = {
            name
            for name, versions in self.versions.items()
            if any(v.is_ready for v in versions.values())
        }
        expected = self._expected or frozenset()
        return bool(expected & ready) and expected <= ready | self._troubled

    def find(self, model: str, version: str | None) -> Version:
        """Find a version, or the newest that is ready. Raises UnknownModel, UnknownVersion or
        NotReady.
        """
        versions = self.versions.get(model)
        if not versions:
            raise self._missing(model)
        if version is not None:
            if version not in versions:
                raise UnknownVersion("the model has no such version")
            return versions[version]
        candidates = (
            [v for v in versions.values() if v.is_sound]
            or [v for v in versions.values() if v.is_ready]
            or [v for v in versions.values() if not v.trouble]
            or [*versions.values()]
        )
        return candidates[0]

    def _missing(self, model: str) -> NotReady | UnknownModel:
        if self._expected is None:
            return NotReady("the gateway does not know yet which models there are", retry_after_s=1)
        if model not in self._expected:
            return UnknownModel("no such model")
        for (name, _), reason in self._troubles.items():
            if name == model:
                return NotReady(f'model "{model}" is not ready: {reason}', retry_after_s=1)
        return NotReady(
            f'model "{model}" is not ready: {SILENT}; repeat after Retry-After',
            retry_after_s=1,
        )

    def add(self, entry: ReplicaEntry) -> Version:
        """Take a replica into its version, which is new if its spec is, and return that."""
        spec = entry.spec
        versions = self.versions.setdefault(spec.name, {})
        known = versions.get(spec.version)
        if known is None or (not known.members and known.spec != spec):
            self._events.version_joined(spec)
            versions[spec.version] = Version(
                spec=spec,
                labels=entry.labels,
                codec=Codec(spec, entry.labels),
                backend=entry.backend,
            )
            newest_first = sorted(versions, key=version_order, reverse=True)
            versions = {version: versions[version] for version in newest_first}
            self.versions[spec.name] = versions
        version = versions[spec.version]
        version.trouble = self._troubles.get((spec.name, spec.version), "")
        version.members.add(entry.id)
        self._forget_empty(spec.name)
        if known is not None and known is not version:
            known.queue.close()
        log.info("replica %s of %s %s joined", entry.id, spec.name, spec.version)
        return version

    def remove(self, entry: ReplicaEntry, version: Version) -> None:
        version.members.discard(entry.id)
        self._forget_empty(entry.spec.name)
        self._changed()
        log.info("replica %s of %s %s left", entry.id, entry.spec.name, entry.spec.version)

    def _forget_empty(self, name: str) -> None:
        """Forget versions without members, but keep the newest of a model that should be served:
        requests may wait for it.
        """
        versions = self.versions.get(name, {})
        empty = [version for version in versions.values() if not version.members]
        if len(empty) == len(versions) and name in (self._expected or ()):
            empty = empty[1:]
        for version in empty:
            del versions[version.spec.version]
            self._events.version_left(version.spec)
            version.queue.close()
            self._changed()
        if not versions:
            self.versions.pop(name, None)
