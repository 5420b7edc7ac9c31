"""Admission and the times to come again, on the test's own clock."""

from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from headrace.edge.exchange import Exchange, Route
from headrace.edge.origin_check import OriginCheck
from headrace.errors import Overloaded, ShuttingDown
from headrace.gateway.access import DataPolicy
from headrace.gateway.admission import Admission
from headrace.gateway.api.context import Context
from headrace.gateway.api.endpoints import ROUTES
from headrace.gateway.settings import GatewayLimits
from headrace.keys import KeyRing
from headrace.keys.key import issue
from headrace.telemetry.events import GatewayEvents

# The apis whose handlers read bodies without another thread.
SMALL = {"metadata", "settings"}


def route(method: str, template: str) -> Route[Context]:
    (found,) = (r for r in ROUTES if (r.method, r.template) == (method, template))
    return found


class AdmissionHarness:
    """Admission of `slots` requests."""

    def __init__(self, slots: int = 8) -> None:
        self.now_s = 1000.0
        self.admission = Admission(GatewayLimits(max_in_flight=slots), clock=lambda: self.now_s)
        self.open: dict[str, list[ExitStack]] = {}

    def enter(self, key_id: str = "", count: int = 1) -> None:
        for _ in range(count):
            stack = ExitStack()
            stack.enter_context(self.admission.slot(key_id))
            self.open.setdefault(key_id, []).append(stack)

    def leave(self, key_id: str = "", count: int = 1) -> None:
        for _ in range(count):
            self.open[key_id].pop(0).close()

    def most(self, key_id: str) -> int:
        """The number of further slots that the key gets, one after the other."""
        count = 0
        while True:
            try:
                self.enter(key_id)
            except Overloaded:
                return count
            count += 1

    def hold(self, seconds: float, times: int = 1) -> None:
        """Requests that each took so long, one after the other."""
        for _ in range(times):
            with self.admission.slot():
                self.now_s += seconds

    def retry_after_s(self, key_id: str = "") -> float | None:
        with pytest.raises(Overloaded) as caught:
            self.admission.check(key_id)
        return caught.value.retry_after_s


def test_without_keys_all_slots_may_be_held() -> None:
    harness = AdmissionHarness()
    assert harness.most("") == 8
    with pytest.raises(Overloaded, match=r"^8 requests are in flight, the most allowed$"):
        harness.admission.check()
    harness.leave()
    harness.admission.check()
    assert harness.admission.in_flight == 7


@pytest.mark.parametrize(("slots", "alone"), [(1, 1), (2, 2), (4, 3), (8, 6), (1024, 768)])
def test_a_key_alone_gets_three_quarters(slots: int, alone: int) -> None:
    assert AdmissionHarness(slots).most("ann") == alone


def test_beside_a_key_that_took_what_it_could_another_finds_room() -> None:
    harness = AdmissionHarness(1024)
    harness.most("ann")
    assert harness.most("ben") == 192
    assert harness.most("eve") == 48


def test_a_key_that_is_refused_is_told_why_at_the_head_and_at_the_slot() -> None:
    harness = AdmissionHarness()
    harness.most("ann")
    why = (
        "^this key has 6 requests in flight, too many for one key "
        "while the server has room for only 2 more$"
    )
    with pytest.raises(Overloaded, match=why):
        harness.admission.check("ann")
    with pytest.raises(Overloaded, match=why):
        harness.enter("ann")
    harness.admission.check("ben")


def test_a_key_that_gives_slots_back_may_come_again() -> None:
    harness = AdmissionHarness()
    harness.most("ann")
    harness.leave("ann", 2)
    assert harness.most("ann") == 2
    harness.leave("ann", 6)
    assert harness.most("ben") == 6


def test_who_holds_a_place_keeps_it_when_others_come() -> None:
    harness = AdmissionHarness()
    harness.enter("ann", 5)
    harness.enter("ben", 3)
    harness.leave("ann", 5)
    harness.leave("ben", 3)
    assert harness.admission.in_flight == 0


def test_the_data_port_counts_the_slots_of_each_key() -> None:
    admission = Admission(GatewayLimits(max_in_flight=4))
    issued = [issue(name, datetime(2030, 1, 1, tzinfo=UTC)) for name in ("ann", "ben")]
    policy = DataPolicy(
        admission, GatewayEvents(), KeyRing([key for key, _ in issued]), {}, OriginCheck("http")
    )

    def admitted(text: str) -> Exchange:
        exchange = Exchange("GET", {b"authorization": f"Bearer {text}".encode()}, "peer", 1000)
        exchange.route = route("POST", "/v2/models/{model}/infer")
        policy.admit(exchange)
        return exchange

    (_, ann), (_, ben) = issued
    with ExitStack() as stack:
        for exchange in [admitted(ann) for _ in range(3)]:
            stack.enter_context(policy.slot(exchange))
        with pytest.raises(Overloaded, match="this key has 3 requests in flight"):
            admitted(ann)
        stack.enter_context(policy.slot(admitted(ben)))
    assert admission.in_flight == 0
    admitted(ann)


SMALL_BYTES = 8 << 10


@pytest.mark.parametrize(
    "template", sorted({r.template for r in ROUTES if r.method == "POST" and r.api in SMALL})
)
@pytest.mark.parametrize(
    "own", [{}, {"m": 1 << 20}], ids=["the usual", "a limit of the model's own"]
)
def test_what_is_read_on_the_loop_is_small(template: str, own: dict[str, int]) -> None:
    policy = DataPolicy(
        AdmissionHarness().admission, GatewayEvents(), None, own, OriginCheck("http")
    )
    for limit, expected in ((16 << 20, SMALL_BYTES), (1024, 1024)):
        exchange = Exchange("POST", {}, "peer", limit)
        exchange.route = route("POST", template)
        exchange.params = {"model": "m"} if "{model}" in template else {}
        policy.admit(exchange)
        assert exchange.max_body_bytes == expected


def test_a_model_s_own_limit_is_that_of_what_it_is_asked() -> None:
    policy = DataPolicy(
        AdmissionHarness().admission, GatewayEvents(), None, {"m": 1 << 20}, OriginCheck("http")
    )
    exchange = Exchange("POST", {}, "peer", 1000)
    exchange.route, exchange.params = route("POST", "/v2/models/{model}/infer"), {"model": "m"}
    policy.admit(exchange)
    assert exchange.max_body_bytes == 1 << 20


def test_what_drains_lets_nobody_in_but_those_that_have_begun() -> None:
    harness = AdmissionHarness()
    harness.admission.is_draining = True
    with pytest.raises(ShuttingDown):
        harness.admission.check()
    harness.enter()


@pytest.mark.parametrize(
    ("held_s", "told_s"), [(0.01, 1), (1.0, 1), (1.5, 2), (7.0, 7), (500.0, 30)]
)
def test_a_refused_caller_is_told_how_long_slots_are_held(held_s: float, told_s: int) -> None:
    harness = AdmissionHarness()
    harness.hold(held_s, 3)
    harness.enter(count=8)
    assert harness.retry_after_s() == told_s


def test_lately_counts_more_than_before() -> None:
    harness = AdmissionHarness()
    harness.hold(20.0, 100)
    harness.hold(1.9, 100)
    harness.enter(count=8)
    assert harness.retry_after_s() == 2


def test_those_who_are_still_there_count_once_they_are_there_for_longer() -> None:
    """Else a model that has come to a halt would be asked for again every second."""
    harness = AdmissionHarness()
    harness.hold(0.1)
    harness.enter(count=8)
    assert harness.retry_after_s() == 1
    harness.now_s += 12
    assert harness.retry_after_s() == 12
    harness.now_s += 100
    assert harness.retry_after_s() == 30


def test_a_full_gateway_that_nobody_has_left_yet_says_a_second() -> None:
    harness = AdmissionHarness(1)
    harness.enter()
    assert harness.retry_after_s() == 1


def test_a_key_over_its_share_is_told_the_same() -> None:
    harness = AdmissionHarness()
    harness.hold(4.0)
    harness.most("ann")
    assert harness.retry_after_s("ann") == 4
