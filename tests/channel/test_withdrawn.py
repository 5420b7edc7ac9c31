"""Withdrawals of requests that nobody waits for: bounded in number and in time."""

from tests.channel.replicas import request

from headrace.channel.withdrawn import MOST, MOST_BYTES, STAY_S, Withdrawn


def test_it_is_given_back_once() -> None:
    withdrawn, asked = Withdrawn(), request(1)
    withdrawn.put(1, asked)
    assert [withdrawn.pop(1), withdrawn.pop(1)] == [asked, None]


def test_the_oldest_go_first_by_number_and_by_bytes() -> None:
    withdrawn = Withdrawn()
    for n in range(MOST + 1):
        withdrawn.put(n, request(n))
    assert list(withdrawn) == list(range(1, MOST + 1))
    withdrawn.put(MOST + 1, request(0, rows=MOST_BYTES // 4))
    assert list(withdrawn) == [MOST + 1]
    withdrawn.put(MOST + 2, request(0))
    assert list(withdrawn) == [MOST + 2]


def test_it_is_forgotten_in_time() -> None:
    now_s = 0.0
    withdrawn = Withdrawn(clock=lambda: now_s)
    withdrawn.put(1, request(1))
    now_s = STAY_S / 2
    withdrawn.put(2, request(2))
    now_s = STAY_S
    withdrawn.forget_old()
    assert list(withdrawn) == [2]
