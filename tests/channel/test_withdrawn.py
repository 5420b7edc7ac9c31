"""What is kept of requests that nobody waits for: bounded, and not for long."""

from tests.channel.replicas import request

from headrace.channel.withdrawn import MOST, MOST_BYTES, STAY_S, Withdrawn


def test_it_is_given_back_once() -> None:
    kept, asked = Withdrawn(), request(1)
    kept.put(1, asked)
    assert [kept.pop(1), kept.pop(1)] == [asked, None]


def test_the_oldest_go_first_by_number_and_by_bytes() -> None:
    kept = Withdrawn()
    for n in range(MOST + 1):
        kept.put(n, request(n))
    assert list(kept) == list(range(1, MOST + 1))
    kept.put(MOST + 1, request(0, rows=MOST_BYTES // 4))
    assert list(kept) == [MOST + 1]
    kept.put(MOST + 2, request(0))
    assert list(kept) == [MOST + 2]


def test_it_is_forgotten_in_time() -> None:
    now_s = 0.0
    kept = Withdrawn(clock=lambda: now_s)
    kept.put(1, request(1))
    now_s = STAY_S / 2
    kept.put(2, request(2))
    now_s = STAY_S
    kept.forget()
    assert list(kept) == [2]
