"""A wall clock that is set back is detected once; one that is set forward, or is slow, is not."""

import pytest

from headrace.operation.wall_clock import WallClock

HOUR_S = 3600.0


class Times:
    wall_s = 1e9
    steady_s = 5.0

    def go_on(self, seconds: float, gained_s: float = 0.0) -> None:
        self.steady_s += seconds
        self.wall_s += seconds + gained_s


@pytest.mark.parametrize(
    ("gained_s", "is_back"),
    [(0.0, False), (HOUR_S, False), (-HOUR_S, True), (-1.5, True), (-0.4, False)],
)
def test_a_step_back_is_noticed_once(gained_s: float, is_back: bool) -> None:
    times = Times()
    clock = WallClock(lambda: times.wall_s, lambda: times.steady_s)
    times.go_on(5.0)
    assert not clock.was_set_back()
    times.go_on(5.0, gained_s)
    assert [clock.was_set_back(), clock.was_set_back()] == [is_back, False]


def test_a_clock_that_is_slowed_for_hours_was_not_set_back() -> None:
    times = Times()
    clock = WallClock(lambda: times.wall_s, lambda: times.steady_s)
    for _ in range(10_000):
        times.go_on(5.0, -0.0025)
        assert not clock.was_set_back()


def test_each_of_many_steps_is_noticed() -> None:
    times = Times()
    clock = WallClock(lambda: times.wall_s, lambda: times.steady_s)
    for gained_s in (HOUR_S, -HOUR_S, -HOUR_S, HOUR_S, HOUR_S, -HOUR_S):
        times.go_on(1.0, gained_s)
        assert clock.was_set_back() == (gained_s < 0)
