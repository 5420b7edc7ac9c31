"""Who may come in and when the others should come again, on a clock of the test's own."""

from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from headrace.edge.changes import Changes
from headrace.edge.exchange import Exchange
from headrace.errors import Overloaded, ShuttingDown
from headrace.gateway.access import DataPolicy
from headrace.gateway.admission import Admission, DoorLimits
from headrace.gateway.api.endpoints import ROUTES
from headrace.keys import KeyRing
from headrace.keys.key import issue
from headrace.telemetry.events import Silent

# Doors whose handlers read bodies without another thread.
SMALL = {"metadata", "settings"}


class Door:
    """Admission of `places` requests."""

    def __init__(self, places: int = 8) -> None:
        self.now_s = 1000.0
        self.admission = Admission(DoorLimits(max_in_flight=places), clock=lambda: self.now_s)
        self.open: dict[str, list[ExitStack]] = {}

    def enter(self, owner: str = "", count: int = 1) -> None:
        for _ in range(count):
            stack = ExitStack()
            stack.enter_context(self.admission.place(owner))
            self.open.setdefault(owner, []).append(stack)

    def leave(self, owner: str = "", count: int = 1) -> None:
        for _ in range(count):
            self.open[owner].pop(0).close()

    def most(self, owner: str) -> int:
        """How many more places the owner gets, one after the other."""
        count = 0
        while True:
            try:
                self.enter(owner)
            except Overloaded:
                return count
            count += 1

    def hold(self, seconds: float, times: int = 1) -> None:
        """Requests that each took so long, one after the other."""
        for _ in range(times):
            with self.admission.place():
                self.now_s += seconds

    def retry_after_s(self, owner: str = "") -> float | None:
        with pytest.raises(Overloaded) as caught:
            self.admission.check(owner)
        return caught.value.retry_after_s


def test_without_keys_all_places_may_be_held() -> None:
    door = Door()
    assert door.most("") == 8
    with pytest.raises(Overloaded, match=r"^8 requests are in flight, the most allowed$"):
        door.admission.check()
    door.leave()
    door.admission.check()
    assert door.admission.in_flight == 7


@pytest.mark.parametrize(("places", "alone"), [(1, 1), (2, 2), (4, 3), (8, 6), (1024, 768)])
def test_a_key_alone_gets_three_quarters(places: int, alone: int) -> None:
    assert Door(places).most("ann") == alone


def test_beside_a_key_that_took_what_it_could_another_finds_room() -> None:
    door = Door(1024)
    door.most("ann")
    assert door.most("ben") == 192
    assert door.most("eve") == 48


def test_a_key_that_is_refused_is_told_why_at_the_head_and_at_the_place() -> None:
    door = Door()
    door.most("ann")
    why = r"^6 requests of this key are in flight, and 2 places free: expected fewer than 3 times as many$"
    with pytest.raises(Overloaded, match=why):
        door.admission.check("ann")
    with pytest.raises(Overloaded, match=why):
        door.enter("ann")
    door.admission.check("ben")


def test_a_key_that_gives_places_back_may_come_again() -> None:
    door = Door()
    door.most("ann")
    door.leave("ann", 2)
    assert door.most("ann") == 2
    door.leave("ann", 6)
    assert door.most("ben") == 6


def test_who_holds_a_place_keeps_it_when_others_come() -> None:
    door = Door()
    door.enter("ann", 5)
    door.enter("ben", 3)
    door.leave("ann", 5)
    door.leave("ben", 3)
    assert door.admission.in_flight == 0


def test_the_data_port_counts_the_places_of_each_key() -> None:
    admission = Admission(DoorLimits(max_in_flight=4))
    issued = [issue(name, datetime(2030, 1, 1, tzinfo=UTC)) for name in ("ann", "ben")]
    policy = DataPolicy(
        admission, Silent(), KeyRing([key for key, _ in issued]), {}, Changes("http")
    )

    def admitted(text: str) -> Exchange:
        exchange = Exchange("GET", {b"authorization": f"Bearer {text}".encode()}, "peer", 1000)
        policy.admit(exchange, "/v2/models/{model}")
        return exchange

    (_, ann), (_, ben) = issued
    with ExitStack() as stack:
        for exchange in [admitted(ann) for _ in range(3)]:
            stack.enter_context(policy.place(exchange))
        with pytest.raises(Overloaded, match="of this key"):
            admitted(ann)
        stack.enter_context(policy.place(admitted(ben)))
    assert admission.in_flight == 0
    admitted(ann)


SMALL_BYTES = 8 << 10


@pytest.mark.parametrize(
    "template", sorted({r.template for r in ROUTES if r.method == "POST" and r.door in SMALL})
)
@pytest.mark.parametrize(
    "own", [{}, {"m": 1 << 20}], ids=["the usual", "a limit of the model's own"]
)
def test_what_is_read_on_the_loop_is_small(template: str, own: dict[str, int]) -> None:
    policy = DataPolicy(Door().admission, Silent(), None, own, Changes("http"))
    for limit, expected in ((16 << 20, SMALL_BYTES), (1024, 1024)):
        exchange = Exchange("POST", {}, "peer", limit)
        (exchange.door,) = {r.door for r in ROUTES if (r.method, r.template) == ("POST", template)}
        exchange.params = {"model": "m"} if "{model}" in template else {}
        policy.admit(exchange, template)
        assert exchange.max_body_bytes == expected


def test_a_model_s_own_limit_is_that_of_what_it_is_asked() -> None:
    policy = DataPolicy(Door().admission, Silent(), None, {"m": 1 << 20}, Changes("http"))
    exchange = Exchange("POST", {}, "peer", 1000)
    exchange.door, exchange.params = "infer", {"model": "m"}
    policy.admit(exchange, "/v2/models/{model}/infer")
    assert exchange.max_body_bytes == 1 << 20


def test_what_drains_lets_nobody_in_but_those_that_have_begun() -> None:
    door = Door()
    door.admission.is_draining = True
    with pytest.raises(ShuttingDown):
        door.admission.check()
    door.enter()


@pytest.mark.parametrize(
    ("held_s", "told_s"), [(0.01, 1), (1.0, 1), (1.5, 2), (7.0, 7), (500.0, 30)]
)
def test_a_refused_caller_is_told_how_long_places_are_held(held_s: float, told_s: int) -> None:
    door = Door()
    door.hold(held_s, 3)
    door.enter(count=8)
    assert door.retry_after_s() == told_s


def test_lately_counts_more_than_before() -> None:
    door = Door()
    door.hold(20.0, 100)
    door.hold(1.9, 100)
    door.enter(count=8)
    assert door.retry_after_s() == 2


def test_those_who_are_still_there_count_once_they_are_there_for_longer() -> None:
    """Else a model that has come to a halt would be asked for again every second."""
    door = Door()
    door.hold(0.1)
    door.enter(count=8)
    assert door.retry_after_s() == 1
    door.now_s += 12
    assert door.retry_after_s() == 12
    door.now_s += 100
    assert door.retry_after_s() == 30


def test_a_full_gateway_that_nobody_has_left_yet_says_a_second() -> None:
    door = Door(1)
    door.enter()
    assert door.retry_after_s() == 1


def test_a_key_over_its_share_is_told_the_same() -> None:
    door = Door()
    door.hold(4.0)
    door.most("ann")
    assert door.retry_after_s("ann") == 4
