"""The path and mode of the secret that opens Ray's ports. Ray does not run here."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.config import cluster_address, prepare_ray
from headrace.errors import StartFailed
from headrace.process.own_folder import begin_run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's home, in an environment without Ray's variables, which is restored at the end."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]
    os.environ["HOME"] = str(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def prepared(warned: list[str] | None = None) -> Path:
    """The folder of a run, with Ray's environment prepared for it."""
    run = begin_run()
    prepare_ray(run, (warned if warned is not None else []).append)
    return run


def token_file(path: Path, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a secret", encoding="utf-8")
    path.chmod(mode)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_lone_node_has_a_secret_of_its_own_for_each_run() -> None:
    secrets = set()
    for _ in range(2):
        os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
        run = prepared()
        path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert (path.parent, mode(path), mode(run.parent)) == (run, 0o600, 0o700)
        secrets.add(path.read_text(encoding="utf-8"))
    assert [len(secret) for secret in secrets] == [64, 64]


def test_a_lone_node_writes_nothing_into_the_home(home: Path) -> None:
    prepared()
    assert list(home.iterdir()) == []


def test_the_operators_token_is_kept() -> None:
    os.environ["RAY_AUTH_TOKEN"] = "a secret"
    run = prepared()
    assert list(run.iterdir()) == []
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_the_operators_token_file_is_kept_on_a_lone_node(home: Path) -> None:
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file(home / "token", 0o600))
    warned: list[str] = []
    run = prepared(warned)
    assert list(run.iterdir()) == []
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(home / "token")
    assert warned == []


def test_a_token_file_that_is_gone_is_named(home: Path) -> None:
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(home / "gone")
    with pytest.raises(StartFailed, match=r"cannot read .*gone: No such file or directory"):
        prepared()


@pytest.mark.parametrize("place", ["named", "default"])
@pytest.mark.parametrize("open_mode", [0o644, 0o640, 0o604, 0o666])
def test_a_token_file_of_a_cluster_that_others_could_read_is_closed_and_that_is_said(
    home: Path, place: str, open_mode: int
) -> None:
    os.environ["RAY_ADDRESS"] = "10.0.0.1:6379"
    path = token_file(
        home / ".ray" / "auth_token" if place == "default" else home / "token", open_mode
    )
    if place == "named":
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    warned: list[str] = []
    prepared(warned)
    assert mode(path) == 0o600
    assert [f"{path} was open to others, and is mode 0600 now" in said for said in warned] == [True]
    prepared(warned)
    assert len(warned) == 1


def not_ours(path: Path, mode: int, *, follow_symlinks: bool = True) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("open_mode", [0o644, 0o444, 0o660])
def test_anothers_token_file_that_others_can_read_or_its_group_write_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, open_mode: int
) -> None:
    os.environ |= {
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_AUTH_TOKEN_PATH": str(token_file(home / "mounted", open_mode)),
    }
    run = begin_run()
    monkeypatch.setattr(os, "chmod", not_ours)
    with pytest.raises(
        StartFailed,
        match=f"mounted: expected mode 0600, .*, found 0{open_mode:o}; .*not permitted.*chmod 440",
    ):
        prepare_ray(run, print)


def test_ones_own_token_file_on_a_read_only_disk_is_not_called_anothers(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, mode: int, *, follow_symlinks: bool = True) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    os.environ |= {
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_AUTH_TOKEN_PATH": str(token_file(home / "mounted", 0o644)),
    }
    run = begin_run()
    monkeypatch.setattr(os, "chmod", read_only)
    with pytest.raises(
        StartFailed, match=r"cannot change it here \(Read-only file system\), chmod 440 its"
    ) as said:
        prepare_ray(run, print)
    assert "another" not in said.value.message


def test_a_secret_that_is_mounted_for_a_group_is_taken(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.environ |= {
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_AUTH_TOKEN_PATH": str(token_file(home / "mounted", 0o440)),
    }
    run = begin_run()
    monkeypatch.setattr(os, "chmod", not_ours)
    prepare_ray(run, print)


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_MODE"])
def test_a_token_file_that_is_not_used_is_left_alone(home: Path, name: str) -> None:
    os.environ |= {"RAY_ADDRESS": "10.0.0.1:6379", name: "disabled"}
    path = token_file(home / ".ray" / "auth_token", 0o644)
    prepared()
    assert mode(path) == 0o644


@pytest.mark.parametrize("address", ["", "local"])
def test_what_ray_takes_for_a_node_of_its_own_is_a_lone_node_with_a_secret_of_its_own(
    address: str,
) -> None:
    os.environ["RAY_ADDRESS"] = address
    run = prepared()
    assert cluster_address() is None
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(run / "ray-token")
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "localhost:6379", "ray://head:10001"])
def test_any_other_ray_address_is_a_cluster(address: str) -> None:
    os.environ["RAY_ADDRESS"] = address
    assert cluster_address() == address


def test_a_lone_nodes_servers_are_told_to_stay_on_loopback_and_a_clusters_are_not() -> None:
    prepared()
    assert os.environ.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0"
    os.environ["RAY_ADDRESS"] = "10.0.0.1:6379"
    prepared()
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
