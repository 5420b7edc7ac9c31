"""Texts of any mix of lengths in shared batches are answered as each would be alone."""

import asyncio
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from headrace import backends
from headrace.inference.request import Request
from headrace.inference.tensor import Array, from_array, to_array
from headrace.replica.host import Host
from headrace.telemetry.events import ReplicaEvents
from headrace_models.repository import ModelVersion, read_version

pytestmark = pytest.mark.zoo

REPOSITORY = Path("models/repository")


def texts_of(version: ModelVersion, lengths: list[int]) -> list[dict[str, Array]]:
    """Rows of these lengths: ids that the model knows, and all of them to be looked at."""
    chance = np.random.default_rng(0)
    most = {"minilm-l6": 30_000, "dga-lstm": 37}[version.spec.name]
    rows = [chance.integers(1, most, (1, length)) for length in lengths]
    if version.spec.name == "dga-lstm":
        return [{"ids": ids} for ids in rows]
    return [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in rows]


@pytest.mark.parametrize(("name", "longest"), [("minilm-l6", 128), ("dga-lstm", 60)])
async def test_a_row_is_answered_as_it_would_be_alone_whatever_its_batch(
    name: str, longest: int
) -> None:
    if not (REPOSITORY / name).is_dir():
        pytest.skip(f"{REPOSITORY} lacks {name}: run headrace models build")
    version = read_version(REPOSITORY / name / "1")
    lengths = np.random.default_rng(1).integers(3, longest, 60).tolist()
    texts = texts_of(version, lengths)
    model = backends.load(version, "onnx")
    output = version.spec.output_names[0]
    async with Host(version, "onnx", ReplicaEvents()) as host:
        asked = [
            Request([from_array(n, a) for n, a in text.items()], (), monotonic() + 60)
            for text in texts
        ]
        answers = await asyncio.gather(*(host.infer(request) for request in asked))
    assert max(answer.times.batch_rows for answer in answers) > 1
    if version.spec.batching.cost == "cells":
        assert any(answer.times.padding > 0 for answer in answers)
    for text, answer in zip(texts, answers, strict=True):
        np.testing.assert_allclose(
            to_array(answer.outputs[0]), model.run(text)[output], rtol=0, atol=1e-5
        )
