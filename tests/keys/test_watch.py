"""A file that changes while the server runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from loadtests.support.virtual_time import run

from headrace.errors import Unauthorized
from headrace.keys.file import add_key, revoke_key
from headrace.keys.key import Key
from headrace.keys.ring import KeyRing
from headrace.keys.watch import follow

Make = Callable[..., tuple[Key, str]]
WITHIN_S = 4.9


@asynccontextmanager
async def followed(ring: KeyRing, path: Path) -> AsyncIterator[None]:
    task = asyncio.create_task(follow(ring, path))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()


def opens(ring: KeyRing, header: str) -> bool:
    try:
        ring.authenticate(header)
    except Unauthorized:
        return False
    return True


def test_keys_come_and_go_within_five_seconds(tmp_path: Path, ring: KeyRing, make: Make) -> None:
    path = tmp_path / "keys.json"
    (first, first_header), (second, second_header) = make(), make()
    add_key(path, first)

    async def program() -> list[tuple[bool, bool]]:
        states = []
        async with followed(ring, path):
            for change in (
                lambda: None,
                lambda: add_key(path, second),
                lambda: revoke_key(path, first.id),
            ):
                change()
                await asyncio.sleep(WITHIN_S)
                states.append((opens(ring, first_header), opens(ring, second_header)))
        return states

    assert run(program()) == [(True, False), (True, True), (False, True)]


def broken(path: Path) -> None:
    path.write_text("{", encoding="utf-8")


def shared(path: Path) -> None:
    path.chmod(0o644)


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [broken, shared, gone])
def test_a_broken_file_is_logged_once_and_the_old_keys_stay(
    tmp_path: Path,
    ring: KeyRing,
    make: Make,
    spoil: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "keys.json"
    (key, header), (late, late_header) = make(), make()
    add_key(path, key)

    async def program() -> None:
        async with followed(ring, path):
            await asyncio.sleep(WITHIN_S)
            spoil(path)
            await asyncio.sleep(60)
            assert opens(ring, header)
            path.unlink(missing_ok=True)
            add_key(path, late)
            await asyncio.sleep(WITHIN_S)

    run(program())
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    assert (opens(ring, header), opens(ring, late_header)) == (False, True)


def test_a_mode_put_right_is_noticed(tmp_path: Path, ring: KeyRing, make: Make) -> None:
    path = tmp_path / "keys.json"
    key, header = make()
    add_key(path, key)
    path.chmod(0o644)

    async def program() -> list[bool]:
        async with followed(ring, path):
            await asyncio.sleep(WITHIN_S)
            before = opens(ring, header)
            path.chmod(0o600)
            await asyncio.sleep(WITHIN_S)
            return [before, opens(ring, header)]

    assert run(program()) == [False, True]
