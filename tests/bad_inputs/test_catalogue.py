"""Every case of the catalogue against real processes over raw sockets; nothing is harmed."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Literal

import orjson
import pytest
from loadtests.support.bad_inputs.builders import build
from loadtests.support.bad_inputs.catalogue import CASES, NO_ANSWER, Case
from loadtests.support.raw_http import Answer, call
from tests.bad_inputs.conftest import LoneGateway
from tests.bad_inputs.vitals import errors, grown, live_s, take, until
from tests.platform.running import Platform

from headrace.edge.problems import STATUS
from headrace.errors import HeadraceError, error_from

MAX_GROWTH_BYTES = 20 << 20
# What an answer of a status owes its caller besides the sentence.
OWED = {401: "www-authenticate", 405: "allow", 429: "retry-after", 503: "retry-after"}
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def cases(*servers: str) -> list[object]:
    return [pytest.param(case, id=case.id) for case in CASES if case.at in servers]


def test_the_catalogue_has_what_was_promised() -> None:
    assert len(CASES) >= 250
    assert [name for name, times in Counter(case.id for case in CASES).items() if times > 1] == []


def test_a_cases_codes_and_statuses_belong_together() -> None:
    for case in CASES:
        kinds = [error_from(code, "") for code in case.code]
        assert tuple(kind.code for kind in kinds) == case.code, (
            f"{case.id}: a code that no error has"
        )
        assert {_status(kind) for kind in kinds} == {s for s in case.status if s >= 400}, case.id


@pytest.mark.ray
@pytest.mark.zoo
@pytest.mark.parametrize("case", cases("platform", "admin"))
def test_it_is_refused_as_it_should_be_and_harms_nothing(
    served: Platform, case: Case, record_property: Callable[[str, object], None]
) -> None:
    before = take(served)
    answer = ask(served.admin_port if case.at == "admin" else served.port, case)
    record_property("live_ms", live_s(served) * 1e3)
    check(case, answer)
    expected = Counter(before.errors) + Counter([answer.code] if answer.status >= 400 else [])
    assert until(lambda: errors(served) == expected), (
        f"counted {errors(served)} after {before.errors}"
    )
    after = take(served)
    assert (after.pids, after.golden) == (before.pids, before.golden)
    # A body is freed some milliseconds after its answer has arrived here.
    assert until(lambda: max(grown(before.rss_bytes).values()) < MAX_GROWTH_BYTES), grown(
        before.rss_bytes
    )


@pytest.mark.ray
@pytest.mark.parametrize("case", cases("typed"))
def test_each_datatype_keeps_its_range(typed: Platform, case: Case) -> None:
    check(case, ask(typed.port, case))


@pytest.mark.parametrize("case", cases("lone_gateway"))
def test_a_message_has_one_reading(lone_gateway: LoneGateway, case: Case) -> None:
    check(case, ask(lone_gateway.port, case))


@pytest.mark.parametrize("case", cases("impatient"))
def test_what_does_not_arrive_in_time_is_answered_and_closed(
    impatient: LoneGateway, case: Case
) -> None:
    check(case, ask(impatient.port, case))


@pytest.mark.parametrize("case", cases("keys"))
def test_a_key_opens_what_it_may_and_nothing_else(keyed: LoneGateway, case: Case) -> None:
    check(case, ask(keyed.port, case, keyed.keys))


def ask(port: int, case: Case, keys: dict[str, str] | None = None) -> Answer:
    sent = build(case.send)
    for name, key in (keys or {}).items():
        sent = sent.replace(b"{%b}" % name.encode(), key.encode())
    probes: dict[str, Literal["again", "end", "none"]] = {
        "open": "again",
        "close": "end",
        "either": "none",
    }
    return call(port, sent, case.then, probes[case.connection])


def check(case: Case, answer: Answer) -> None:
    """The answer is one that the case allows, in the shape that every answer has."""
    assert answer.status in case.status, answer
    if answer.status != NO_ANSWER:
        assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])
    if answer.status >= 400:
        assert answer.code in case.code, answer
        assert _sentence(answer)
        assert OWED.get(answer.status, "x-request-id") in answer.headers
    if case.interim is not None:
        assert answer.had_interim == case.interim
    if answer.status != NO_ANSWER and case.connection != "either":
        assert answer.is_open == (case.connection == "open"), (
            "the connection is not as it should be"
        )
        assert answer.rest == b""


def _sentence(answer: Answer) -> bool:
    """Check that an error has at most 200 characters and the request id of its header."""
    document = orjson.loads(answer.body)
    if isinstance(document["error"], dict):  # the embeddings endpoint speaks as OpenAI's does
        message, named = document["error"]["message"], answer.headers["x-request-id"]
    else:
        message, named = document["error"], document["request_id"]
    return 0 < len(message) <= 200 and named == answer.headers["x-request-id"]


def _status(error: HeadraceError) -> int:
    return STATUS[next(kind for kind in type(error).__mro__ if kind in STATUS)]
