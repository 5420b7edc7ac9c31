"""When a run is stopped, and when its process ends: on clocks that the tests move."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.inference.tensor import Array
from headrace.replica.watch import LEAST_S, LOOK_S, Run, Watch

FAR_S = 1000.0
HOUR_S = 3600.0


class Deaf:
    """A backend that cannot be stopped."""

    device = "cpu"
    lanes = 1

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return inputs


class Hearing(Deaf):
    def __init__(self) -> None:
        self.stopped: list[int] = []

    def stop(self, thread: int) -> None:
        self.stopped.append(thread)


class Case:
    """A watch and a machine: `goes_on` lets time pass; a run gets `share` of it as CPU."""

    def __init__(self, backend: Deaf, max_run_s: float | None = None) -> None:
        self.now_s = self.cpu_s = 0.0
        self.said: list[Run] = []
        self.ends = 0
        self.watch = Watch(
            backend,
            self.said.append,
            max_run_s,
            lambda: self.now_s,
            lambda _: self.cpu_s,
            self.end,
            last_words_s=0.0,
        )

    def end(self) -> None:
        self.ends += 1

    def begin(self, expected_s: float = 0.001, deadline_s: float = FAR_S) -> Run:
        return self.watch.run(expected_s, deadline_s, self.now_s).__enter__()

    def goes_on(self, seconds: float, share: float = 1.0) -> None:
        for _ in range(round(seconds / LOOK_S)):
            self.now_s += LOOK_S
            self.cpu_s += share * LOOK_S
            self.watch.look()


def end(run: Run) -> None:
    run.__exit__(None, None, None)


def test_a_run_over_its_limit_is_stopped_and_not_before() -> None:
    backend = Hearing()
    case = Case(backend)
    run = case.begin()
    case.goes_on(LEAST_S)
    assert (backend.stopped, run.cause) == ([], None)
    case.goes_on(2 * LOOK_S)
    assert (set(backend.stopped), run.cause, case.ends) == ({run.thread}, "endless", 0)


def test_a_run_may_take_ten_times_what_it_is_expected_to() -> None:
    case = Case(Hearing())
    run = case.begin(expected_s=1.0)
    case.goes_on(9.8)
    assert run.cause is None
    case.goes_on(1.0)
    assert run.cause == "endless"


@pytest.mark.parametrize("limit_s", [0.6, 20.0])
def test_a_models_own_limit_takes_the_place_of_both(limit_s: float) -> None:
    case = Case(Hearing(), limit_s)
    run = case.begin(expected_s=1.0)
    case.goes_on(limit_s)
    assert run.cause is None
    case.goes_on(2 * LOOK_S)
    assert run.cause == "endless"


def test_on_a_starved_machine_time_passes_and_nobody_is_stopped() -> None:
    case = Case(Hearing())
    run = case.begin()
    case.goes_on(5 * LEAST_S, share=0.1)
    assert run.cause is None


def test_a_run_that_sleeps_for_ever_is_stopped_in_the_end() -> None:
    case = Case(Hearing())
    run = case.begin()
    case.goes_on(7 * LEAST_S, share=0.0)
    assert run.cause == "endless"


def test_time_in_which_the_process_was_stopped_counts_for_nobody() -> None:
    case = Case(Hearing())
    run = case.begin(deadline_s=2 * HOUR_S)
    case.goes_on(LOOK_S)
    case.now_s += HOUR_S
    case.goes_on(LEAST_S, share=0.1)
    assert run.cause is None


def test_a_run_is_stopped_soon_after_its_last_callers_deadline_and_is_not_to_blame() -> None:
    case = Case(Hearing())
    run = case.begin(expected_s=5.0, deadline_s=3.0)
    case.goes_on(3.2)
    assert run.cause is None
    case.goes_on(0.6)
    assert run.cause == "late"


def test_a_short_deadline_stops_nothing_that_has_not_run_for_a_while() -> None:
    case = Case(Hearing())
    run = case.begin(expected_s=5.0, deadline_s=0.1)
    case.goes_on(1.2)
    assert run.cause is None


def test_what_is_late_and_goes_on_until_its_limit_is_to_blame_after_all() -> None:
    case = Case(Hearing())
    run = case.begin(expected_s=0.3, deadline_s=1.0)
    causes = []
    for share in (0.1, 1.0):
        case.goes_on(4.0, share)
        causes.append(run.cause)
    assert causes == ["late", "endless"]


def test_a_short_deadline_saves_no_endless_input_on_a_busy_machine() -> None:
    case = Case(Hearing())
    run = case.begin(deadline_s=1.0)
    case.goes_on(6.2, share=0.3)
    assert run.cause == "endless"


def test_an_odd_run_whose_callers_time_is_over_does_not_go_on_for_long() -> None:
    case = Case(Hearing())
    run = case.begin(expected_s=1.0, deadline_s=3.0)
    case.goes_on(8.8, share=0.5)
    assert run.cause == "late"


def test_where_stopping_does_nothing_the_process_says_who_it_was_and_ends() -> None:
    case = Case(Hearing())
    run = case.begin()
    case.goes_on(LEAST_S + 2 * LOOK_S)
    assert case.ends == 0
    case.goes_on(1.2)
    assert case.ends > 0
    assert case.said[0] is run
    assert run.is_doomed


def test_a_late_run_that_cannot_be_stopped_may_go_on_until_its_limit() -> None:
    case = Case(Deaf())
    case.begin(expected_s=0.3, deadline_s=0.1)
    case.goes_on(2.8)
    assert case.ends == 0
    case.goes_on(0.6)
    assert case.ends > 0


def test_a_run_that_has_ended_is_not_stopped_nor_is_the_next_in_its_thread() -> None:
    backend = Hearing()
    case = Case(backend)
    for _ in range(10):
        run = case.begin()
        case.goes_on(LEAST_S / 2)
        end(run)
    case.goes_on(10)
    assert (backend.stopped, case.ends, case.watch.runs) == ([], 0, set())


def test_one_of_two_lanes_is_stopped_alone() -> None:
    case = Case(Hearing())
    first = case.begin()
    case.goes_on(1.0)
    second = case.begin()
    case.goes_on(0.8)
    assert (first.cause, second.cause) == ("endless", None)


@pytest.mark.parametrize(
    ("backend", "max_run_s", "may"),
    [(Hearing(), None, True), (Deaf(), None, False), (Hearing(), 20.0, False)],
)
def test_only_what_is_stopped_soon_may_hold_the_event_loop(
    backend: Deaf, max_run_s: float | None, may: bool
) -> None:
    assert Case(backend, max_run_s).watch.may_hold_the_loop is may


SOUND = st.tuples(st.floats(0.001, 3.0), st.floats(0.2, 9.0), st.floats(0.2, 1.0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(SOUND, st.booleans()), max_size=8))
def test_no_history_of_sound_runs_convicts_one_and_an_endless_one_never_gets_away(
    history: list[tuple[tuple[float, float, float], bool]],
) -> None:
    """Sound runs take up to nine times their expected time, on as little as a fifth of a core."""
    for backend in (Hearing(), Deaf()):
        case = Case(backend)
        for (expected_s, times, share), is_endless in history:
            run, ends = case.begin(expected_s, case.now_s + HOUR_S), case.ends
            limit_s = max(LEAST_S, 10 * expected_s)
            case.goes_on((limit_s + 0.6 if is_endless else 0.1 * times * limit_s) / share, share)
            assert (run.cause is not None) is is_endless
            assert (case.ends > ends) is (is_endless and not isinstance(backend, Hearing))
            end(run)
