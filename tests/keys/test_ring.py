"""Authentication, rates and concurrency."""

import hmac
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.keys.conftest import NOW, Clocks

from headrace.errors import QuotaExceeded, Unauthorized
from headrace.keys.key import Key
from headrace.keys.ring import KeyRing

Make = Callable[..., tuple[Key, str]]


def refusal(ring: KeyRing, header: str | None) -> tuple[str, str]:
    with pytest.raises(Unauthorized) as caught:
        ring.authenticate(header)
    return caught.value.code, caught.value.message


def is_refused(ring: KeyRing, key: Key) -> bool:
    try:
        ring.take(key)
    except QuotaExceeded:
        return True
    return False


def test_a_key_that_is_shown_is_recognised(ring: KeyRing, make: Make) -> None:
    (key, header), (other, other_header) = make(), make()
    ring.load([key, other])
    assert ring.authenticate(header) == key
    assert ring.authenticate(other_header) == other
    assert ring.authenticate(header.replace("Bearer", "bearer")) == key


WRONG: dict[str, Callable[[str], str | None]] = {
    "none": lambda _: None,
    "empty": lambda _: "",
    "scheme alone": lambda _: "Bearer",
    "other scheme": lambda header: header.replace("Bearer", "Basic"),
    "no scheme": lambda header: header.removeprefix("Bearer "),
    "unknown id": lambda header: "Bearer hr_000000000000." + header.partition(".")[2],
    "the id of nobody": lambda header: "Bearer hr_nobody." + header.partition(".")[2],
    "no secret": lambda header: header.partition(".")[0] + ".",
    "wrong secret": lambda header: header[:-1] + ("A" if header[-1] != "A" else "B"),
    "short secret": lambda header: header[:-1],
    "long secret": lambda header: header + "A",
    "space after": lambda header: header + " ",
    "two spaces": lambda header: header.replace(" ", "  "),
    "newline after": lambda header: header + "\n",
    "NUL": lambda header: header + "\x00",
    "quoted": lambda header: f'"{header}"',
    "not ASCII": lambda header: header + "é",
    "digits that are not ASCII": lambda header: header.replace("hr_", "hr_٣"),
    "twice": lambda header: f"{header}, {header}",
    "8 kB": lambda header: header + "A" * 8192,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_invalid_key_gets_the_same_answer(ring: KeyRing, make: Make, wrong: str) -> None:
    key, header = make()
    ring.load([key])
    assert refusal(ring, WRONG[wrong](header)) == refusal(KeyRing(()), None)


def test_a_revoked_and_an_expired_key_get_the_answer_of_no_key(
    ring: KeyRing, clocks: Clocks, make: Make
) -> None:
    (revoked, revoked_header), (expiring, expiring_header) = (
        make(),
        make(expires=NOW + timedelta(days=1)),
    )
    ring.load([revoked.model_copy(update={"revoked": True}), expiring])
    assert ring.authenticate(expiring_header) == expiring
    clocks.date = NOW + timedelta(days=1)
    assert refusal(ring, expiring_header) == refusal(ring, revoked_header) == refusal(ring, None)


def test_every_header_is_compared_whether_its_id_is_known_or_not(
    ring: KeyRing, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, header = make()
    ring.load([key])
    compared: list[str] = []
    real = hmac.compare_digest

    def compare(found: str, expected: str) -> bool:
        compared.append(expected)
        return real(found, expected)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ring.authenticate(header)
    refusals = [refusal(ring, wrong(header)) for wrong in WRONG.values()]
    assert len(compared) == 1 + len(refusals)
    assert {len(expected) for expected in compared} == {64}


def test_a_key_does_not_show_its_digest_when_it_is_printed(make: Make) -> None:
    key, _ = make()
    assert key.sha256 not in repr(key) + str(key)


@pytest.mark.parametrize(
    ("models", "model", "allowed"),
    [
        (("*",), "anything", True),
        (("mail-*",), "mail-spam", True),
        (("mail-*",), "minilm-l6", False),
        (("mail-*", "dga-lstm"), "dga-lstm", True),
        (("dga-lstm",), "DGA-lstm", False),
        (("dga-lstm",), "dga-lstm2", False),
        (("v[12]",), "v2", True),
        (("v[!12]",), "v2", False),
        (("*",), "n" * 129, False),
    ],
)
def test_a_key_may_use_the_models_that_its_patterns_fit(
    make: Make, models: tuple[str, ...], model: str, allowed: bool
) -> None:
    assert make(models=models)[0].may_use(model) is allowed


def test_a_rate_allows_a_burst_and_then_says_when_to_come_again(
    ring: KeyRing, clocks: Clocks, make: Make
) -> None:
    key, _ = make(rate=4.0)
    ring.load([key])
    assert [is_refused(ring, key) for _ in range(5)] == [False, False, False, False, True]
    clocks.s += 0.1
    with pytest.raises(QuotaExceeded) as caught:
        ring.take(key)
    assert caught.value.retry_after_s == pytest.approx(0.15)
    clocks.s += 0.151
    assert [is_refused(ring, key) for _ in range(2)] == [False, True]


def test_a_rate_below_one_allows_one_at_a_time(ring: KeyRing, clocks: Clocks, make: Make) -> None:
    key, _ = make(rate=0.1)
    ring.load([key])
    assert [is_refused(ring, key) for _ in range(2)] == [False, True]
    clocks.s += 3600
    assert [is_refused(ring, key) for _ in range(2)] == [False, True]


def test_concurrency_counts_requests_until_they_are_given_back(ring: KeyRing, make: Make) -> None:
    key, _ = make(concurrency=2)
    ring.load([key])
    assert [is_refused(ring, key) for _ in range(3)] == [False, False, True]
    ring.give_back(key)
    assert [is_refused(ring, key) for _ in range(2)] == [False, True]


def test_a_refusal_for_concurrency_uses_nothing_of_the_rate(ring: KeyRing, make: Make) -> None:
    key, _ = make(rate=2.0, concurrency=1)
    ring.load([key])
    assert [is_refused(ring, key) for _ in range(5)] == [False, True, True, True, True]
    ring.give_back(key)
    assert not is_refused(ring, key)


def test_one_key_uses_nothing_of_another(ring: KeyRing, make: Make) -> None:
    (greedy, _), (modest, _), (free, _) = make(rate=1.0), make(rate=1.0), make()
    ring.load([greedy, modest, free])
    assert [is_refused(ring, greedy) for _ in range(3)] == [False, True, True]
    assert not is_refused(ring, modest)
    assert not any(is_refused(ring, free) for _ in range(100))


def test_what_a_key_has_used_survives_a_reload(ring: KeyRing, make: Make) -> None:
    (limited, header), (busy, _), (gone, gone_header) = (
        make(rate=1.0),
        make(concurrency=1),
        make(concurrency=1),
    )
    ring.load([limited, busy, gone])
    for key in (limited, busy, gone):
        ring.take(key)
    ring.load([limited.model_copy(update={"name": "renamed"}), busy])
    assert ring.authenticate(header).name == "renamed"
    assert refusal(ring, gone_header) == refusal(ring, None)
    assert is_refused(ring, limited)
    assert is_refused(ring, busy)


def test_a_key_that_leaves_gives_back_what_it_took_and_may_return(
    ring: KeyRing, make: Make
) -> None:
    key, header = make(concurrency=1)
    ring.load([key])
    ring.take(key)
    ring.load([])
    ring.load([key])
    assert is_refused(ring, key)
    ring.load([])
    ring.give_back(key)
    ring.load([key])
    assert not is_refused(ring, ring.authenticate(header))
