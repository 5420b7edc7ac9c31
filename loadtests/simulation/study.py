"""Policies under the same loads, and the highest load that each of them stands."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loadtests.simulation.policies import Policy
from loadtests.simulation.traffic import Arrival
from loadtests.simulation.trial import Machines, Trial, play

__all__ = ["HALVINGS", "MET_SHARE", "Course", "highest_load", "study"]

# A load is stood while so many of all requests, those refused among them, are answered within the
# objective.
MET_SHARE = 0.99
HALVINGS = 4

Arrivals = Callable[[float], Sequence[Arrival]]


@dataclass(frozen=True)
class Course:
    """A policy, a trial at each load, and the highest load it stood, None without one."""

    policy: Policy
    trials: tuple[Trial, ...]
    highest: Trial | None


def study(
    policies: Iterable[Policy],
    rates: Sequence[float],
    arrivals: Arrivals,
    machines: Machines,
    told: Callable[[str], None] = lambda _: None,
) -> list[Course]:
    """Run each policy under each mean rate; calls `told` with its name before each run."""

    def course(policy: Policy) -> Course:
        def at(rate: float) -> Trial:
            told(policy.name)
            return play(policy, arrivals(rate), machines)

        trials = [(rate, at(rate)) for rate in sorted(rates)]
        return Course(policy, tuple(trial for _, trial in trials), highest_load(trials, at))

    return [course(policy) for policy in policies]


def highest_load(
    trials: Sequence[tuple[float, Trial]], at: Callable[[float], Trial]
) -> Trial | None:
    """The trial at the highest load that is stood, found by HALVINGS bisections."""
    stood = [(rate, trial) for rate, trial in trials if trial.met >= MET_SHARE]
    low, best = max(stood, default=(0.0, None), key=lambda pair: pair[0])
    failed = [rate for rate, trial in trials if trial.met < MET_SHARE and rate > low]
    if not failed:
        return best
    high = min(failed)
    for _ in range(HALVINGS):
        rate = (low + high) / 2
        trial = at(rate)
        if trial.met >= MET_SHARE:
            low, best = rate, trial
        else:
            high = rate
    return best
