"""Gateways that need no Ray, and the slowest health answers of the run in its summary."""

from dataclasses import dataclass, field

import pytest

__all__ = ["Doorstep"]


@dataclass(frozen=True)
class Doorstep:
    """A gateway without Ray at `port`; `keys` are what the catalogue's placeholders stand for."""

    port: int
    keys: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="session")
def impatient() -> Doorstep:
    """A gateway before the doubler that gives a head 0.2 s, a body 0.2 s, and an idle connection 0.4 s."""
    pytest.skip("the edge has no limits of time to set yet")


@pytest.fixture(scope="session")
def keyed() -> Doorstep:
    """A gateway before the doubler with a keys file.

    `good` may ask the doubler; `other` may ask another model only; `revoked` and `expired` are what they say;
    `limited` has used up its rate.
    """
    pytest.skip("the gateway has no keys yet")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    live_ms = sorted(float(value) for r in reports for name, value in r.user_properties if name == "live_ms")
    if live_ms:
        middle, worst = live_ms[len(live_ms) // 2], live_ms[-1]
        terminalreporter.write_line(
            f"health after {len(live_ms)} bad inputs: median {middle:.1f} ms, worst {worst:.1f} ms"
        )
