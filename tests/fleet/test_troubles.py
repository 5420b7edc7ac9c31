"""Versions that fail again and again: pauses, declared trouble and recovery, on a fake clock."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headrace.fleet.troubles import DECLARED_AFTER, MAX_PAUSE_S, SOUND_S, Troubles

KEY = ("m", "1")
CRASH = "its process ended unexpectedly"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def troubles(clock: Clock) -> Troubles:
    return Troubles(clock)


def crash(troubles: Troubles, clock: Clock, times: int, apart_s: float = 100.0) -> list[float]:
    """The pause before each next start."""
    pauses = []
    for _ in range(times):
        clock.now_s += apart_s
        troubles.serves(KEY)
        troubles.ended(KEY, CRASH, is_down=True)
        pauses.append(troubles.pause_s(KEY))
    return pauses


def test_pauses_grow_from_none_to_a_minute(troubles: Troubles, clock: Clock) -> None:
    assert crash(troubles, clock, 10) == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_however_often_it_ended_a_pause_is_a_minute(troubles: Troubles, clock: Clock) -> None:
    assert crash(troubles, clock, 5000)[-1] == MAX_PAUSE_S


def test_a_pause_ends_by_itself(troubles: Troubles, clock: Clock) -> None:
    crash(troubles, clock, 4)
    clock.now_s += 3
    assert troubles.pause_s(KEY) == 1
    clock.now_s += 1
    assert troubles.pause_s(KEY) == 0


def test_three_ends_are_trouble_and_one_or_two_are_not(troubles: Troubles, clock: Clock) -> None:
    crash(troubles, clock, DECLARED_AFTER - 1)
    assert troubles.declared() == ()
    crash(troubles, clock, 1)
    (trouble,) = troubles.declared()
    assert (trouble.model, trouble.version, trouble.reason) == (
        "m",
        "1",
        f"{CRASH}; 3 times recently",
    )


def test_trouble_is_over_when_the_version_has_served_soundly_for_minutes_and_not_sooner(
    troubles: Troubles, clock: Clock
) -> None:
    crash(troubles, clock, 5)
    clock.now_s += 10 * SOUND_S  # nothing serves
    troubles.forget_sound()
    assert troubles.declared()
    troubles.serves(KEY)
    clock.now_s += SOUND_S - 1
    troubles.serves(KEY)
    troubles.forget_sound()
    assert troubles.declared()
    clock.now_s += 1
    troubles.forget_sound()
    assert troubles.declared() == ()
    assert crash(troubles, clock, 1) == [0]


def test_an_operator_ends_pauses_at_once(troubles: Troubles, clock: Clock) -> None:
    crash(troubles, clock, 5)
    troubles.forgive("other")
    assert troubles.pause_s(KEY) > 0
    troubles.forgive("m")
    assert (troubles.pause_s(KEY), troubles.declared()) == (0, ())


def test_ends_that_come_together_count_as_one(troubles: Troubles, clock: Clock) -> None:
    """A lost node, or one poisonous input for two replicas."""
    for _ in range(DECLARED_AFTER - 1):
        clock.now_s += 50
        for is_down in (False, False, True, True):
            troubles.ended(KEY, CRASH, is_down=is_down)
            clock.now_s += 0.1
    assert troubles.declared() == ()
    assert troubles.pause_s(KEY) <= 1
    clock.now_s += 50
    troubles.ended(KEY, CRASH, is_down=False)
    assert troubles.declared() == ()
    troubles.ended(KEY, CRASH, is_down=True)
    assert troubles.declared()


def test_a_version_that_always_had_another_replica_is_not_in_trouble(
    troubles: Troubles, clock: Clock
) -> None:
    for _ in range(10):
        clock.now_s += 20
        troubles.ended(KEY, CRASH, is_down=False)
    assert troubles.declared() == ()
    assert troubles.pause_s(KEY) == MAX_PAUSE_S


def test_models_that_are_not_expected_any_more_are_forgotten(
    troubles: Troubles, clock: Clock
) -> None:
    crash(troubles, clock, 5)
    troubles.retain(["m"])
    assert troubles.declared()
    troubles.retain(["other"])
    assert troubles.declared() == ()


class History(RuleBasedStateMachine):
    """Crashes, recoveries, reports that come late or twice, and a directory that restarts empty."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.troubles = Troubles(self.clock)
        self.ends: list[float] = []  # since the last reason to forget
        self.served_since_s: float | None = None

    @rule(seconds=st.floats(0.0, 400.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule(is_down=st.booleans(), twice=st.booleans())
    def it_ends(self, *, is_down: bool, twice: bool) -> None:
        self._forget_if_sound()
        for _ in range(1 + twice):
            self.troubles.ended(KEY, CRASH, is_down=is_down)
        self.ends.append(self.clock.now_s)
        self.served_since_s = None

    @rule()
    def it_serves(self) -> None:
        self.troubles.serves(KEY)
        if self.served_since_s is None and self.ends:
            self.served_since_s = self.clock.now_s

    @rule()
    def the_directory_comes_back_empty(self) -> None:
        self.troubles = Troubles(self.clock)
        self.ends.clear()
        self.served_since_s = None

    @rule()
    def an_operator_forgives(self) -> None:
        self.troubles.forgive("m")
        self.ends.clear()
        self.served_since_s = None

    def _forget_if_sound(self) -> None:
        if self.served_since_s is not None and self.clock.now_s - self.served_since_s >= SOUND_S:
            self.ends.clear()
            self.served_since_s = None

    @invariant()
    def pauses_are_bounded_and_never_for_a_first_end(self) -> None:
        pause_s = self.troubles.pause_s(KEY)
        assert 0 <= pause_s <= MAX_PAUSE_S
        if len(self.ends) <= 1:
            assert pause_s == 0

    @invariant()
    def trouble_needs_that_many_ends_and_is_over_once_it_is_sound(self) -> None:
        self._forget_if_sound()
        self.troubles.forget_sound()
        assert len(self.troubles.declared()) <= (len(self.ends) >= DECLARED_AFTER)


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
