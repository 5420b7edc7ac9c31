"""Keys on fake clocks."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.keys.key import Key, issue
from headrace.keys.ring import KeyRing

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Clocks:
    """The date and the monotonic clock of a ring."""

    date: datetime = NOW
    s: float = 1000.0


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def ring(clocks: Clocks) -> KeyRing:
    return KeyRing((), now=lambda: clocks.date, clock_s=lambda: clocks.s)


@pytest.fixture
def make() -> Callable[..., tuple[Key, str]]:
    """A key and the header that presents it."""

    def make(**limits: Any) -> tuple[Key, str]:
        key, text = issue("test", NOW, **limits)
        return key, f"Bearer {text}"

    return make
