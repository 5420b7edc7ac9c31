"""The verdicts on abuse, and what HTTP servers are asked; the measurements are run by hand."""

from dataclasses import replace

import pytest
from loadtests.abuse import Hurt, compare, is_within
from loadtests.http_servers import FAMILIES, family
from loadtests.open_loop import Figures
from loadtests.support.bad_inputs.catalogue import CASES

GOOD = Figures(100, {"right": 100}, 100, 100, (0.001, 0.002, 0.010), 0.001)
SLOWER = replace(GOOD, percentiles_s=(0.001, 0.002, 0.013))
LOST = replace(GOOD, counts={"right": 99})
HURT = Hurt("a", ("bad_json",), ["bad_json"], [0.1], [1 << 20], [0], [0.09, 0.01], [0.0], [0.0])


@pytest.mark.parametrize(("found", "met"), [(GOOD, True), (SLOWER, False), (LOST, False)])
def test_slower_or_lost_answers_miss_the_mark(found: Figures, met: bool) -> None:
    assert compare([GOOD, SLOWER], [found, found], 1.1, "slow sockets").is_met is met


@pytest.mark.parametrize(
    ("hurt", "met"),
    [
        (HURT, True),
        (replace(HURT, found=["bad_json", "no answer"]), False),
        (replace(HURT, lag_s=[0.09, 0.06]), False),
        (replace(HURT, gateway_bytes=[1 << 30]), False),
    ],
)
def test_a_wrong_answer_a_block_or_much_memory_miss_the_mark(hurt: Hurt, met: bool) -> None:
    assert is_within(hurt) is met


def test_http_servers_are_asked_of_each_family_and_of_no_route() -> None:
    found = {case.id: family(case) for case in CASES}
    assert set(found.values()) == {None, *FAMILIES}
    assert found["A01-two-different-lengths"] == "framing"
    assert found["A15-get-of-infer"] is None
