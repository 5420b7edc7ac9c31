"""The operator: a failed change leaves what served before. Over fakes of Serve and of the fleet."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.operation.repository import RepositoryFolder

from headrace.errors import (
    BadRequest,
    Conflict,
    HeadraceError,
    NotReady,
    StartFailed,
    Unavailable,
    UnknownModel,
)
from headrace.fleet.instructions import IndexEntry, Instruction
from headrace.operation.operator import Operator
from headrace_models.names import VersionId
from headrace_models.repository import ModelVersion, scan


class FakePlatform:
    """Serve and the fleet in one: a version serves from the moment that it runs until it is
    deleted.
    """

    def __init__(self) -> None:
        self.running: set[VersionId] = set()
        self.deployed: list[VersionId] = []
        self.expected: list[str] = []
        self.reason = ""
        self.failed: set[VersionId] = set()
        self.looks = 0
        self.is_deaf = False
        self.in_trouble: dict[VersionId, str] = {}
        self.is_heard_of = True
        self.while_loading: Callable[[], None] = lambda: None
        self.fault: Exception | None = None

    def deploy(self, version: ModelVersion) -> None:
        if self.fault:
            raise self.fault
        self.deployed.append(_key(version))

    def wait_until_running(self, version: ModelVersion) -> str:
        self.while_loading()
        if not self.reason:
            self.running.add(_key(version))
        return self.reason

    def delete(self, version: ModelVersion) -> None:
        self.running.discard(_key(version))
        if _key(version) in self.deployed:
            self.deployed.remove(_key(version))

    def given_up(self, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        self.looks += 1
        return [v for v in versions if _key(v) in self.failed or _key(v) not in self.deployed]

    def expect(self, models: Sequence[str]) -> None:
        self.expected = list(models)

    def is_served(self, model: str, version: str, is_wanted: bool, timeout_s: float) -> bool:  # noqa: ARG002
        return self.is_heard_of and ((model, version) in self.running) == is_wanted

    def serving(self) -> set[VersionId]:
        return self.running

    def troubles(self) -> dict[VersionId, str]:
        return self.in_trouble

    def forgive(self, model: str) -> None:
        if self.is_deaf:
            raise Unavailable("the fleet's directory does not answer")
        self.in_trouble = {key: why for key, why in self.in_trouble.items() if key[0] != model}


def _key(version: ModelVersion) -> VersionId:
    return version.spec.name, version.spec.version


@pytest.fixture
def repository(tmp_path: Path) -> RepositoryFolder:
    repository = RepositoryFolder(tmp_path)
    repository.add("m", "1")
    return repository


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
def operator(repository: RepositoryFolder, platform: FakePlatform) -> Operator:
    """The operator of a platform that was started with the repository's versions."""
    versions, _ = scan(repository.root)
    for version in versions:
        platform.deploy(version)
        platform.wait_until_running(version)
    platform.expect([v.spec.name for v in versions])
    return Operator(repository.root, platform, platform, versions, {})


def states(operator: Operator) -> dict[str, str]:
    return {entry.version: entry.state for entry in operator.index()}


def test_a_new_version_replaces_the_one_before(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    repository.add("m", "2")
    operator.load("m")
    assert platform.deployed == [("m", "2")]
    assert states(operator) == {"1": "UNAVAILABLE", "2": "READY"}


def test_the_version_before_serves_until_the_new_one_does(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    repository.add("m", "2")
    seen: list[dict[str, str]] = []
    platform.while_loading = lambda: seen.append(states(operator))
    operator.load("m")
    assert seen == [{"1": "READY", "2": "LOADING"}]


@pytest.mark.parametrize("breaks", ["does not run", "is not heard of", "raises"])
def test_a_version_that_does_not_start_is_taken_back_and_the_one_before_serves_on(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform, breaks: str
) -> None:
    repository.add("m", "2")
    platform.reason = "StartFailed: /srv/m/2/golden.npz: no" if breaks == "does not run" else ""
    platform.is_heard_of = breaks != "is not heard of"
    platform.fault = OSError("internal") if breaks == "raises" else None
    outcome = operator.carry_out(Instruction("load", "m"))
    with pytest.raises(HeadraceError) as raised:
        outcome.entries()
    assert "internal" not in str(raised.value)
    assert "/srv" not in str(raised.value)
    assert isinstance(raised.value, StartFailed) is (breaks != "raises")
    assert platform.deployed == [("m", "1")]
    assert platform.expected == ["m"]
    assert states(operator) == {"1": "READY", "2": "UNAVAILABLE"}


def test_why_a_version_did_not_start_is_in_the_index_until_it_starts(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    repository.add("m", "2")
    platform.reason = "golden output: found a difference"
    with pytest.raises(StartFailed):
        operator.load("m")
    assert operator.index()[1] == IndexEntry("m", "2", "UNAVAILABLE", platform.reason)
    platform.reason = ""
    operator.load("m")
    assert operator.index()[1] == IndexEntry("m", "2", "READY")


def test_the_trouble_of_a_version_that_did_not_start_goes_with_it(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    repository.add("m", "2")
    platform.reason = "golden output: found a difference"
    platform.while_loading = lambda: platform.in_trouble.update(
        {("m", "2"): "it does not start; 3 times recently"}
    )
    with pytest.raises(StartFailed):
        operator.load("m")
    assert platform.in_trouble == {}
    assert [(e.state, e.reason) for e in operator.index()] == [
        ("READY", ""),
        ("UNAVAILABLE", platform.reason),
    ]


def test_the_reason_of_a_failed_start_is_given_even_if_its_trouble_cannot_be_forgiven(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    def deafen() -> None:
        platform.is_deaf = True

    repository.add("m", "2")
    platform.reason, platform.while_loading = "golden output: found a difference", deafen
    with pytest.raises(StartFailed, match="golden output"):
        operator.load("m")


def test_a_loaded_version_is_loaded_again_by_doing_nothing(
    operator: Operator, platform: FakePlatform
) -> None:
    operator.load("m")
    assert platform.deployed == [("m", "1")]


def test_a_loaded_version_that_does_not_answer_is_not_ready(
    operator: Operator, platform: FakePlatform
) -> None:
    platform.running.clear()
    with pytest.raises(NotReady):
        operator.load("m")
    assert operator.index() == (
        IndexEntry("m", "1", "UNAVAILABLE", "none of its replicas answers now"),
    )


def test_a_loaded_version_with_other_contents_is_a_conflict(
    operator: Operator, repository: RepositoryFolder
) -> None:
    with (repository.root / "m" / "1" / "model.toml").open("a") as spec:
        spec.write("\n# changed\n")
    with pytest.raises(Conflict, match="add a new version"):
        operator.load("m")


def test_a_refused_newer_version_is_an_error_and_the_loaded_one_serves_on(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    repository.add_broken("m", "2")
    with pytest.raises(BadRequest, match=r"^model\.toml:\d+: files"):
        operator.load("m")
    assert platform.deployed == [("m", "1")]


def test_the_newest_sound_version_is_loaded_if_none_is_loaded(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    repository.add("m", "2")
    repository.add_broken("m", "3")
    operator.unload("m")
    operator.load("m")
    assert platform.deployed == [("m", "2")]


def test_a_version_that_was_removed_is_replaced_by_the_newest_there_is(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    (repository.root / "m" / "1").rename(repository.root / "gone")
    assert operator.index()[-1] == IndexEntry("m", "1", "READY", "no longer in the repository")
    repository.add("m", "0")
    operator.load("m")
    assert platform.deployed == [("m", "0")]


def test_a_model_that_was_added_is_served_and_expected_once_it_runs(
    operator: Operator, repository: RepositoryFolder, platform: FakePlatform
) -> None:
    repository.add("new", "1")
    seen: list[list[str]] = []
    platform.while_loading = lambda: seen.append(platform.expected)
    operator.load("new")
    assert seen == [["m"]]
    assert platform.expected == operator.models == ["m", "new"]


def test_an_unloaded_model_is_neither_served_nor_expected(
    operator: Operator, platform: FakePlatform
) -> None:
    operator.unload("m")
    assert (platform.deployed, platform.expected) == ([], [])
    assert operator.index() == (IndexEntry("m", "1", "UNAVAILABLE", "not loaded"),)
    operator.unload("m")


@pytest.mark.parametrize("name", ["nobody", "..", "../m", "/etc/passwd", "a\0b", "", "M"])
def test_a_name_that_is_not_in_the_repository_is_unknown(operator: Operator, name: str) -> None:
    for deed in (operator.load, operator.unload):
        with pytest.raises(UnknownModel):
            deed(name)


def test_a_model_without_a_version_or_without_a_sound_one_is_refused(
    operator: Operator, repository: RepositoryFolder
) -> None:
    (repository.root / "empty").mkdir()
    repository.add_broken("bad", "1")
    for name in ("empty", "bad"):
        with pytest.raises(BadRequest):
            operator.load(name)


def test_a_model_that_did_not_start_with_the_platform_can_be_loaded_later(
    repository: RepositoryFolder, platform: FakePlatform
) -> None:
    operator = Operator(
        repository.root, platform, platform, scan(repository.root)[0], {"m": "golden output: no"}
    )
    assert operator.models == []
    assert operator.index() == (IndexEntry("m", "1", "UNAVAILABLE", "golden output: no"),)
    operator.load("m")
    assert operator.index() == (IndexEntry("m", "1", "READY"),)


def test_a_version_in_trouble_is_unavailable_with_the_reason_until_a_load_forgives_it(
    operator: Operator, platform: FakePlatform
) -> None:
    platform.in_trouble[("m", "1")] = "its process ended unexpectedly"
    (entry,) = operator.index()
    assert (entry.state, entry.reason) == ("UNAVAILABLE", "its process ended unexpectedly")
    operator.load("m")
    assert states(operator) == {"1": "READY"}
    platform.in_trouble[("m", "1")] = "its process ended unexpectedly"
    operator.unload("m")
    assert platform.in_trouble == {}


def test_only_versions_that_were_given_up_are_deployed_again_now_and_then(
    repository: RepositoryFolder, platform: FakePlatform
) -> None:
    repository.add("other", "1")
    versions, _ = scan(repository.root)
    for version in versions:
        platform.deploy(version)
    now_s = [0.0]
    operator = Operator(repository.root, platform, platform, versions, {}, clock=lambda: now_s[0])
    deployed: list[int] = []
    platform.failed = {("m", "1")}
    for _ in range(20):
        platform.deployed.clear()
        platform.deployed += [("m", "1"), ("other", "1")]
        operator.redeploy()
        deployed.append(platform.deployed.index(("m", "1")))
        now_s[0] += 10
    # Last in the list once it is new.
    assert deployed == [
        1,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
    ]


def test_a_version_that_could_not_be_deployed_again_is_missing_and_tried_again(
    repository: RepositoryFolder, platform: FakePlatform
) -> None:
    versions, _ = scan(repository.root)
    platform.deploy(versions[0])
    now_s = 0.0
    operator = Operator(repository.root, platform, platform, versions, {}, clock=lambda: now_s)
    platform.failed, platform.fault = {("m", "1")}, OSError("Serve does not answer")
    with pytest.raises(OSError, match="Serve"):
        operator.redeploy()
    assert platform.deployed == []
    platform.failed, platform.fault = set(), None
    operator.redeploy()
    assert platform.deployed == []  # it is early
    now_s = 60.0
    operator.redeploy()
    assert platform.deployed == [("m", "1")]


def test_all_versions_are_looked_at_at_once(
    repository: RepositoryFolder, platform: FakePlatform
) -> None:
    for name in ("a", "b", "c"):
        repository.add(name, "1")
    versions, _ = scan(repository.root)
    operator = Operator(repository.root, platform, platform, versions, {})
    operator.redeploy()
    assert (platform.looks, len(platform.deployed)) == (1, 4)
    operator.redeploy()
    assert platform.looks == 1
