"""The user's private folder, and the runs in it."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from headrace.errors import StartFailed
from headrace.process.own_folder import KEPT_RUNS, begin_run, own_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def belong_to_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a folder to another user, or become another user without the right to do so."""
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
    else:
        user = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: user)


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_the_folder_is_private_with_any_umask(tmp_path: Path) -> None:
    assert mode(own_folder(tmp_path)) == 0o700


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    folder = own_folder(tmp_path)
    folder.chmod(0o777)
    assert own_folder(tmp_path) == folder
    assert mode(folder) == 0o700


def test_the_folder_is_the_same_for_every_process_of_a_user(tmp_path: Path) -> None:
    command = "from headrace.process.own_folder import own_folder; print(own_folder())"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = [
        subprocess.run(
            [sys.executable, "-c", command],
            env=environment,
            text=True,
            capture_output=True,
            check=True,
        )
        for _ in range(2)
    ]
    assert len({each.stdout for each in done}) == 1


@pytest.fixture
def squatted(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A user whose folder another user has created, in root's temporary folder."""
    user = 2**31 + os.getpid()
    folder = Path("/tmp") / f"headrace-{user}"
    folder.mkdir(mode=0o777)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: user)
        yield user
    folder.rmdir()


def test_a_folder_that_another_user_made_first_is_refused(squatted: int) -> None:
    with pytest.raises(
        StartFailed,
        match=rf"expected a folder of user {squatted}, found a folder of user \d+; remove it",
    ):
        own_folder()


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"headrace-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartFailed, match="found something else of user"):
        own_folder(tmp_path)


@pytest.mark.parametrize("name", ["file", "dangling"])
def test_a_file_instead_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / f"headrace-{os.getuid()}"
    if name == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path / "nothing")
    with pytest.raises(StartFailed, match=r"cannot make .*: File exists; set TMPDIR"):
        own_folder(tmp_path)


@pytest.mark.parametrize("open_mode", [0o777, 0o770, 0o707, 0o2775])
@pytest.mark.parametrize("below", [".", "b", "b/c"])
def test_a_folder_that_others_may_rename_or_one_above_it_is_refused(
    tmp_path: Path, open_mode: int, below: str
) -> None:
    base = tmp_path / below
    base.mkdir(parents=True, exist_ok=True)
    (tmp_path / "link").symlink_to(base)
    tmp_path.chmod(open_mode)
    for each in (base, tmp_path / "link"):
        with pytest.raises(
            StartFailed,
            match=f"^{tmp_path}: .*only owners can .*, found mode {open_mode:04o}; set TMPDIR",
        ):
            own_folder(each)
    assert not list(base.glob("headrace-*"))
    tmp_path.chmod(open_mode | 0o1000)
    own_folder(base)


@pytest.mark.parametrize("below", [".", "b/c"])
def test_a_folder_in_one_of_another_user_is_refused(
    tmp_path: Path, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / below
    base.mkdir(parents=True, exist_ok=True)
    belong_to_another(tmp_path, monkeypatch)
    with pytest.raises(
        StartFailed,
        match=r"expected a folder of root or of user .*, found one of user \d+; set TMPDIR",
    ):
        own_folder(base)


def test_a_temporary_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"cannot make .*: No such file or directory; set TMPDIR"):
        own_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("base", ["/tmp", "/var/tmp", f"/scratch/{'long' * 20}"])
def test_a_path_of_rays_sockets_is_never_too_long(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", base)
    longest = (
        own_folder()
        / "run-abcdefgh/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    )
    assert len(bytes(longest)) <= 107


def test_every_run_has_a_folder_of_its_own_that_is_held(tmp_path: Path) -> None:
    runs = [begin_run(tmp_path) for _ in range(KEPT_RUNS + 3)]
    assert len(set(runs)) == len(runs)
    for run in runs:
        assert (mode(run.parent), mode(run)) == (0o700, 0o700)
        descriptor = os.open(run, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_of_runs_that_have_ended_the_last_few_stay_and_one_that_goes_on_always_does(
    tmp_path: Path,
) -> None:
    goes_on = begin_run(tmp_path)
    ended = [own_folder(tmp_path) / f"run-{n:08}" for n in range(10)]
    for age, run in enumerate(reversed([goes_on, *ended])):
        (run / "session_latest" / "logs").mkdir(parents=True)
        os.utime(run, (1e9 - age, 1e9 - age))
    begun = begin_run(tmp_path)
    assert {*own_folder(tmp_path).iterdir()} == {goes_on, begun, *ended[-KEPT_RUNS:]}
    assert (goes_on / "session_latest" / "logs").is_dir()


def test_old_sockets_that_nobody_listens_on_go_and_no_others(tmp_path: Path) -> None:
    folder = own_folder(tmp_path)
    sockets = {name: socket.socket(socket.AF_UNIX) for name in ("killed", "lives", "begins")}
    for name, each in sockets.items():
        each.bind(str(folder / f"{name}.sock"))
        if name != "begins":
            os.utime(folder / f"{name}.sock", (1e9, 1e9))
    sockets["lives"].listen(0)
    sockets["killed"].close()
    for _ in range(3):  # also once its backlog is full
        begin_run(tmp_path)
        assert {path.stem for path in folder.glob("*.sock")} == {"lives", "begins"}
        busy = socket.socket(socket.AF_UNIX)
        busy.setblocking(False)
        with suppress(BlockingIOError):
            busy.connect(str(folder / "lives.sock"))
        sockets[str(len(sockets))] = busy
    for each in sockets.values():
        each.close()


def test_a_run_that_was_killed_is_not_held_any_more(tmp_path: Path) -> None:
    command = (
        "import os, sys; from pathlib import Path\n"
        "from headrace.process.own_folder import begin_run\n"
        "begin_run(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    for _ in range(KEPT_RUNS + 2):
        assert (
            subprocess.run([sys.executable, "-c", command, str(tmp_path)], check=False).returncode
            == -9
        )
    begin_run(tmp_path)
    assert len(list(own_folder(tmp_path).iterdir())) == KEPT_RUNS + 1
