"""Every case of framing once more, with an offer of another protocol in each head: it must change
nothing at all.

So that limits of number and size weigh the same on both sides, the other side has headers of the
same length that mean nothing.
"""

import re
from collections.abc import Iterator

import pytest
from loadtests.support.bad_inputs.builders import build
from loadtests.support.bad_inputs.catalogue import CASES, Case, Then
from loadtests.support.raw_http import Answer, converse
from tests.bad_inputs.conftest import LoneGateway

_FIRST_LINE = re.compile(rb" HTTP/[0-9.]+\r\n")
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
    b"AAMAAABkAAQ\r\n",
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
}


def cases(*servers: str) -> Iterator[object]:
    for case in CASES:
        if case.at in servers and case.id.startswith("A") and case.then != "reset":
            yield pytest.param(case, id=case.id)


def both_columns(
    port: int, sent: bytes, then: Then, upgrade: bytes
) -> tuple[list[Answer], list[Answer]]:
    """The answers without and with an offer in every head."""
    nothing = re.sub(
        rb"(?i)(connection|upgrade):", lambda name: b"x" * (len(name[0]) - 1) + b":", upgrade
    )
    return answers(port, sent, then, nothing), answers(port, sent, then, upgrade)


def answers(port: int, sent: bytes, then: Then, added: bytes) -> list[Answer]:
    return converse(port, _FIRST_LINE.sub(lambda line: line[0] + added, sent), then)


def seen(answers: list[Answer]) -> list[tuple[int, bytes, bool, bool]]:
    """An answer as a caller sees it, without request ids."""
    return [
        (a.status, re.sub(rb'"request_id":"[^"]*"', b"", a.body), a.had_interim, a.is_open)
        for a in answers
    ]


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("case", cases("platform", "lone_gateway"))
def test_an_offer_of_another_protocol_changes_nothing(
    lone_gateway: LoneGateway, case: Case, upgrade: str
) -> None:
    without, with_it = both_columns(
        lone_gateway.port, build(case.send), case.then, UPGRADES[upgrade]
    )
    assert seen(with_it) == seen(without)


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("case", cases("impatient"))
def test_nor_where_something_does_not_arrive_in_time(
    impatient: LoneGateway, case: Case, upgrade: str
) -> None:
    without, with_it = both_columns(impatient.port, build(case.send), case.then, UPGRADES[upgrade])
    assert seen(with_it) == seen(without)


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("case", cases("platform", "lone_gateway"))
def test_nor_where_a_key_is_asked_for(keyed: LoneGateway, case: Case, upgrade: str) -> None:
    without, with_it = both_columns(keyed.port, build(case.send), case.then, UPGRADES[upgrade])
    assert seen(with_it) == seen(without)
