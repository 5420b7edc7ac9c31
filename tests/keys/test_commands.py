"""The command `headrace keys`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.keys.file import read_keys
from headrace.keys.ring import KeyRing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def keys(*arguments: str, file: Path | None = None) -> Result:
    chosen = () if file is None else ("--file", str(file))
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, ["keys", *arguments, *chosen])


def test_a_created_key_is_alone_on_stdout_and_opens(path: Path) -> None:
    done = keys("create", "shop", file=path)
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1)
    key = KeyRing(read_keys(path)).authenticate(f"Bearer {done.stdout.strip()}")
    assert (key.name, key.models, key.rate, key.concurrency, key.admin, key.expires) == (
        "shop", ("*",), None, None, False, None,
    )  # fmt: skip


def test_every_option_of_create_is_in_the_key(path: Path) -> None:
    limits = (
        "--models mail-* --models dga-lstm --rate 2.5 --concurrency 3 --expires-days 90 --admin"
    )
    assert keys("create", "shop", *limits.split(), file=path).exit_code == 0
    (key,) = read_keys(path)
    assert (key.models, key.rate, key.concurrency, key.admin) == (
        ("mail-*", "dga-lstm"),
        2.5,
        3,
        True,
    )
    assert key.expires is not None
    assert (key.expires - key.created).days == 90


def test_the_list_shows_every_key_and_no_secret(path: Path) -> None:
    texts = [
        keys("create", name, "--models", "v[12]", file=path).stdout.strip()
        for name in ("shop", "ops")
    ]
    keys("revoke", texts[0][3:].partition(".")[0], file=path)
    shown = keys("list", file=path).stdout
    lines = shown.splitlines()
    assert [line.split()[:3] + line.split()[-1:] for line in lines[1:]] == [
        [key.id, key.name, "v[12]", key.state(key.created)] for key in read_keys(path)
    ]
    assert not any(text.partition(".")[2] in shown for text in texts)
    assert not any(key.sha256 in shown for key in read_keys(path))


def test_a_revoked_key_is_revoked_in_the_file(path: Path) -> None:
    keys("create", "shop", file=path)
    (key,) = read_keys(path)
    assert keys("revoke", key.id, file=path).exit_code == 0
    assert [key.revoked for key in read_keys(path)] == [True]


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "shop", "--rate", "0"],
        ["create", "shop", "--rate", "nan"],
        ["create", "shop", "--concurrency", "0"],
        ["create", "shop", "--models", "a b"],
        ["create", "[red]"],
        ["revoke", "feed"],
        ["list"],
    ],
)
def test_a_failed_command_prints_one_line_and_changes_nothing(
    path: Path, arguments: list[str]
) -> None:
    done = keys(*arguments, file=path)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("headrace: ")
    assert not path.exists()


@pytest.mark.parametrize("command", ["create", "list", "revoke"])
def test_every_command_has_an_example(command: str) -> None:
    assert f"Example: headrace keys {command}" in " ".join(keys(command, "--help").stdout.split())
