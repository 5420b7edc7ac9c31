"""Gateways that need no Ray, and the slowest health answers of the run in its summary."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from loadtests.support.in_process_platform import in_process_platform

from headrace.edge.limits import EdgeLimits
from headrace.keys.file import add_key, revoke_key
from headrace.keys.key import issue, utc_now

__all__ = ["LoneGateway"]


@dataclass(frozen=True)
class LoneGateway:
    """A gateway without Ray at `port`; `keys` are what the catalogue's placeholders stand for."""

    port: int
    keys: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="session")
def lone_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneGateway]:
    """A gateway before the doubler, with the limits that it has by default."""
    with in_process_platform(tmp_path_factory.mktemp("lone_gateway"), edge=EdgeLimits()) as running:
        yield LoneGateway(running.port)


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneGateway]:
    """A gateway in front of the doubler: 0.2 s for a head, 0.2 s for a body, 0.4 s idle."""
    limits = EdgeLimits(head_timeout_s=0.2, body_timeout_s=0.2, keep_alive_s=0.4)
    with in_process_platform(tmp_path_factory.mktemp("impatient"), edge=limits) as running:
        yield LoneGateway(running.port)


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneGateway]:
    """A gateway before the doubler with a keys file.

    `good` may ask the doubler; `other` may ask another model only; `revoked` and `expired` are what
    they say; `limited` has used up its rate.
    """
    folder = tmp_path_factory.mktemp("keyed")
    file = folder / "keys.json"
    now = utc_now()
    issued = {
        "good": issue("good", now, models=("doubler",)),
        "other": issue("other", now, models=("another",)),
        "revoked": issue("revoked", now),
        "expired": issue("expired", now, expires=now),
        "limited": issue("limited", now, rate=1e-6),
    }
    for key, _ in issued.values():
        add_key(file, key)
    revoke_key(file, issued["revoked"][0].id)
    with in_process_platform(folder, keys=file) as running:
        texts = {name: text for name, (_, text) in issued.items()}
        running.ask("GET", "/v2", headers={"Authorization": f"Bearer {texts['limited']}"})
        yield LoneGateway(running.port, texts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    live_ms = sorted(
        float(value) for r in reports for name, value in r.user_properties if name == "live_ms"
    )
    if live_ms:
        middle, worst = live_ms[len(live_ms) // 2], live_ms[-1]
        terminalreporter.write_line(
            f"health after {len(live_ms)} bad inputs: median {middle:.1f} ms, worst {worst:.1f} ms"
        )
