"""The key file: replaced atomically, private, and refused with its path if it is wrong."""

import fcntl
import json
import os
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.keys.conftest import NOW

from headrace.errors import StartFailed
from headrace.keys.file import add_key, read_keys, revoke_key
from headrace.keys.key import Key, issue

Make = Callable[..., tuple[Key, str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def change(path: Path, key: int = 0, **values: Any) -> None:
    """Change a key in the file by hand, in place."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document["keys"][key].update(values)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_keys_are_read_as_they_were_written(path: Path, make: Make) -> None:
    limits = {"models": ("mail-*", "dga-lstm"), "rate": 2.5, "concurrency": 3, "admin": True}
    keys = [make()[0], make(**limits, expires=NOW + timedelta(days=1))[0]]
    for key in keys:
        add_key(path, key)
    assert list(read_keys(path)) == keys


def test_the_file_holds_no_secret_and_is_its_owners_alone(path: Path, make: Make) -> None:
    key, header = make()
    add_key(path, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert header.partition(".")[2] not in path.read_text(encoding="utf-8")


def test_every_key_is_another(make: Make) -> None:
    headers = [make()[1] for _ in range(100)]
    assert (
        len({header.partition(".")[0] for header in headers})
        == len({h.partition(".")[2] for h in headers})
        == 100
    )
    assert all(len(header.partition(".")[2]) >= 43 for header in headers)


def test_a_change_replaces_the_file_and_leaves_nothing_beside_it(path: Path, make: Make) -> None:
    add_key(path, make()[0])
    with path.open(encoding="utf-8") as before:
        add_key(path, make()[0])
        assert len(json.load(before)["keys"]) == 1
    assert len(read_keys(path)) == 2
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link(path: Path, tmp_path: Path, make: Make) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    add_key(link, make()[0])
    assert link.is_symlink()
    assert len(read_keys(path)) == 1


def test_a_revoked_key_stays_and_is_revoked(path: Path, make: Make) -> None:
    (key, _), (other, _) = make(), make()
    add_key(path, key)
    add_key(path, other)
    assert revoke_key(path, key.id).revoked
    assert [(k.id, k.state(NOW)) for k in read_keys(path)] == [
        (key.id, "revoked"),
        (other.id, "valid"),
    ]


def test_an_id_that_is_not_there_cannot_be_revoked(path: Path, make: Make) -> None:
    add_key(path, make()[0])
    with pytest.raises(StartFailed, match='expected the id of one of its keys, found "feed"'):
        revoke_key(path, "feed")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o444, 0o460])
def test_a_file_that_is_not_its_owners_alone_is_refused(path: Path, make: Make, mode: int) -> None:
    add_key(path, make()[0])
    path.chmod(mode)
    with pytest.raises(
        StartFailed,
        match=f"keys.json: expected mode 0600, .*, found {mode:04o}; chmod",
    ):
        read_keys(path)


def test_a_secret_that_is_mounted_for_a_group_is_taken(path: Path, make: Make) -> None:
    add_key(path, make()[0])
    path.chmod(0o440)
    assert len(read_keys(path)) == 1


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440])
def test_another_users_file_may_be_readable_by_its_group_but_not_writable(
    path: Path, make: Make, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key(path, make()[0])
    path.chmod(mode)
    user = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: user)
    assert len(read_keys(path)) == 1
    path.chmod(mode | 0o020)
    with pytest.raises(StartFailed, match=r"found 06[26]0|found 0460"):
        read_keys(path)


@pytest.mark.parametrize("mode", [0o600, 0o440])
def test_readers_of_the_file_can_read_it_after_a_key_was_added(
    path: Path, make: Make, mode: int
) -> None:
    add_key(path, make()[0])
    path.chmod(mode)
    group = os.getgroups()[-1] if os.getgroups() else os.getgid()
    os.chown(path, -1, group)
    add_key(path, make()[0])
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == mode
    assert mode == 0o600 or status.st_gid == group


def test_a_missing_or_special_file_is_refused_with_its_path(path: Path) -> None:
    with pytest.raises(StartFailed, match=r"cannot read .*keys\.json: No such file"):
        read_keys(path)
    os.mkfifo(path, 0o600)
    with pytest.raises(
        StartFailed, match=r"keys\.json: expected a regular file, found something else"
    ):
        read_keys(path)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"rate": 0}, "keys.0.rate"),
        ({"rate": "5"}, "keys.0.rate"),
        ({"concurrency": 0}, "keys.0.concurrency"),
        ({"sha256": "secret"}, "keys.0.sha256"),
        ({"models": []}, "keys.0.models"),
        ({"models": ["../x"]}, "keys.0.models.0"),
        ({"name": "\x1b[31m"}, "keys.0.name"),
        ({"expires": "2030-01-01T00:00:00"}, "keys.0.expires"),
        ({"role": "root"}, "keys.0.role"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_and_not_shown(
    path: Path, make: Make, values: dict[str, Any], place: str
) -> None:
    add_key(path, make()[0])
    change(path, **values)
    with pytest.raises(StartFailed) as caught:
        read_keys(path)
    assert caught.value.message.startswith(f"{path}: {place}: ")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": 1}', "\xff", '{"key": []}'])
def test_other_content_than_keys_is_refused(path: Path, text: str) -> None:
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(StartFailed, match=r"keys\.json: "):
        read_keys(path)


def test_two_keys_with_one_id_are_refused(path: Path, make: Make) -> None:
    (key, _), (other, _) = make(), make()
    add_key(path, key)
    with pytest.raises(StartFailed, match="two keys have the same id"):
        add_key(path, other.model_copy(update={"id": key.id}))
    assert list(read_keys(path)) == [key]


def test_two_commands_at_a_time_lose_no_change(path: Path, make: Make) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(StartFailed, match="another command is changing it"):
            add_key(path, make()[0])
    finally:
        os.close(folder)
    assert not path.exists()


def test_a_key_with_wrong_limits_is_not_made() -> None:
    with pytest.raises(StartFailed, match=r"models\.0: "):
        issue("shop", NOW, models=("a b",))
