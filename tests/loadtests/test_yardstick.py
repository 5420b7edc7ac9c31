"""The yardstick's parts; the measurement itself takes its 20 seconds and is run by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loadtests.open_loop import Figures
from loadtests.yardstick import answer_to, is_met, requests, write_model

from headrace_models.repository import read_version, verify

GOOD = Figures(4000, {}, 199.5, 199.5, (0.08, 0.1, 0.105), 0.001)


def test_its_model_is_a_sound_version(tmp_path: Path) -> None:
    version = read_version(write_model(tmp_path))
    verify(version)
    golden = np.load(version.path(version.spec.golden))
    assert np.array_equal(golden["output:y"], answer_to(golden["input:x"]))


def test_no_two_requests_have_the_same_answer() -> None:
    assert len({request.body for request in requests(50)}) == 50


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (GOOD, True),
        (replace(GOOD, goodput=189.0), False),
        (replace(GOOD, percentiles_s=(0.08, 0.1, 0.111)), False),
    ],
)
def test_the_mark_is_both_rate_and_latency(found: Figures, met: bool) -> None:
    assert is_met(found) is met
