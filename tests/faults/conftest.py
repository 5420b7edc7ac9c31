"""Small disks, for tests that fill them."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

__all__ = ["MakeDisk"]

MakeDisk = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Makes a disk of the given bytes, or with other options of tmpfs; gives its folder."""
    with ExitStack() as made:

        def make(name: str, *options: str) -> Path:
            folder = tmp_path / name
            folder.mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
            done = subprocess.run(mount, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"a small disk takes the right to mount one: {done.stderr.strip()}")
            made.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield make
