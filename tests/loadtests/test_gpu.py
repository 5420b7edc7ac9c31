"""The device measurement's core around a fake backend; real ones are measured by hand."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from loadtests.gpu import Bare, Case, Latency, Measured, batch_sizes, cases_of, measure, report
from loadtests.yardstick import WIDTH, answer_to, write_model

from headrace.inference.tensor import Array
from headrace_models.repository import ModelVersion, read_version

ROOT = Path(__file__).parents[2]


class Instant:
    """Answers at once, and keeps the rows of every batch."""

    device = "simulated"
    lanes = 1

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.rows.append(len(inputs["x"]))
        return {"y": answer_to(inputs["x"])}


@pytest.fixture
def version(tmp_path: Path) -> ModelVersion:
    return read_version(write_model(tmp_path))


async def test_it_measures_the_bare_backend_at_several_sizes_and_then_the_host(
    version: ModelVersion,
) -> None:
    made: list[Instant] = []

    def load(_: ModelVersion, __: str) -> Instant:
        made.append(Instant())
        return made[-1]

    found = await measure(Case(version, "onnx", None), 0.02, load)
    bare, host = made
    assert set(bare.rows) == {1, 2, 4, 8, 16, 32}
    assert max(host.rows) <= 32
    assert len(host.rows) > 4
    assert found.device == "simulated"
    assert found.light.answered == found.busy.answered == 1
    assert 0 < found.light.rate < found.busy.rate < found.rows_per_s


def test_its_batches_are_what_the_model_takes(version: ModelVersion) -> None:
    batch = Case(version, "onnx", None).batch(3)
    assert {name: (a.shape, a.dtype.name) for name, a in batch.items()} == {
        "x": ((3, WIDTH), "float32")
    }


@pytest.mark.parametrize(("max_rows", "sizes"), [(1, [1]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_sizes_double_up_to_the_largest_batch(max_rows: int, sizes: list[int]) -> None:
    assert batch_sizes(max_rows) == sizes


def test_a_backend_that_the_version_has_no_weights_for_is_left_out(tmp_path: Path) -> None:
    write_model(tmp_path)
    assert [(c.backend, c.length) for c in cases_of(tmp_path, ["yardstick"])] == [("onnx", None)]


def test_the_report_has_device_day_and_ratios() -> None:
    latency = Latency(10, 0.002, 0.004, 1)
    found = Measured("m", "onnx", "cpu", 16, Bare(8, 100, 0.08), 0.001, 90, latency, latency)
    told = orjson.loads(orjson.dumps(report([found], 5)))
    assert told["device"]
    assert told["date"].endswith("+00:00")
    assert told["measured"][0]["rate_ratio"] == 0.9
    assert told["measured"][0]["light_ratio"] == 2


def test_it_runs_without_ray() -> None:
    code = "import sys; import loadtests.gpu; sys.exit('ray' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode
        == 0
    )
