"""A process's metrics port: bounded, and beyond loopback only for those who may read it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.edge.conftest import IN_TIME_S, Caller, request, until

from headrace.edge.metrics import LIMITS, expose
from headrace.edge.readers import Readers
from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now
from headrace.telemetry.exposition import Page, Render

GET = request(method="GET", target="/metrics")
# An address of no loopback interface, which is reached by loopback all the same.
OPEN_ADDRESS = "0.0.0.0"


def page(accept: str | None, accept_encoding: str | None) -> Page:
    return Page(f"{accept} {accept_encoding}".encode(), "text/plain", [])


class MetricsPort:
    """A metrics port, and its callers."""

    def __init__(self, target: str) -> None:
        self._port = int(target.rpartition(":")[2])
        self._callers: list[Caller] = []

    async def call(self, own_address: str = "127.0.0.1") -> Caller:
        opening = asyncio.open_connection("127.0.0.1", self._port, local_addr=(own_address, 0))
        caller = Caller(*await opening)
        self._callers.append(caller)
        return caller

    async def round_trip(
        self, *headers: str, method: str = "GET", target: str = "/metrics"
    ) -> tuple[int, bytes]:
        return await (await self.call()).round_trip(
            request(b"", *headers, method=method, target=target)
        )

    def close(self) -> None:
        for caller in self._callers:
            caller.writer.close()


@asynccontextmanager
async def exposing(
    render: Render = page, host: str = "127.0.0.1", readers: Readers | None = None
) -> AsyncIterator[MetricsPort]:
    async with asyncio.timeout(6 * IN_TIME_S), expose(render, host, readers or Readers()) as target:
        port = MetricsPort(target)
        try:
            yield port
        finally:
            port.close()


async def test_a_target_is_named_as_in_a_url() -> None:
    async with expose(page, "::1", Readers()) as target:
        assert target.startswith("[::1]:")


async def test_a_page_is_made_in_the_form_that_the_request_asks_for() -> None:
    async with exposing() as port:
        plain = b"text/plain; version=0.0.4; charset=utf-8 "
        assert await port.round_trip("Accept: text/plain", "Accept-Encoding: gzip") == (
            200,
            plain + b"gzip",
        )
        assert await port.round_trip() == (200, plain)


@pytest.mark.parametrize(
    ("method", "target", "status"), [("GET", "/", 404), ("POST", "/metrics", 405)]
)
async def test_there_is_nothing_else(method: str, target: str, status: int) -> None:
    async with exposing() as port:
        assert (await port.round_trip(method=method, target=target))[0] == status


async def test_idle_half_requests_cost_no_thread_and_hide_nothing_from_a_scraper() -> None:
    async with exposing() as port:
        await port.round_trip()
        threads = threading.active_count()
        for _ in range(300):
            await (await port.call()).send(GET[:10])
        for _ in range(3):
            assert (await port.round_trip())[0] == 200
        assert threading.active_count() == threads


async def test_one_address_cannot_take_all_connections() -> None:
    assert LIMITS.max_connections_per_peer < LIMITS.max_connections
    async with exposing() as port:
        for _ in range(LIMITS.max_connections_per_peer):
            await port.call("127.0.0.2")
        first = await port.call()
        assert await first.round_trip(GET) == (await port.round_trip())
        for _ in range(LIMITS.max_connections):  # those of one's own address give way
            await port.call("127.0.0.2")
        assert (await first.round_trip(GET))[0] == 200


@pytest.mark.parametrize(
    "sent", [b"", GET[:10], request(b"a", method="GET", target="/metrics")[:-1]]
)
async def test_idle_neighbours_hide_nothing_from_a_scraper_of_their_address(
    sent: bytes,
) -> None:
    async with exposing() as port:
        for _ in range(LIMITS.max_connections + 1):
            await (await port.call()).send(sent)
        for _ in range(3):
            assert (await port.round_trip())[0] == 200


class Slow:
    """Makes pages one by one, each when it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.going = threading.Semaphore(0)

    def __call__(self, *_: object) -> Page:
        self.begun += 1
        number = self.begun
        assert self.going.acquire(timeout=IN_TIME_S)
        return Page(b"%d" % number, "text/plain", [])


async def test_a_page_that_takes_long_holds_nothing_else_up() -> None:
    slow = Slow()
    async with exposing(slow) as port:
        scraper = await port.call()
        await scraper.send(GET)
        await until(lambda: slow.begun == 1)
        assert (await port.round_trip(target="/elsewhere"))[0] == 404
        slow.going.release()
        assert await scraper.answer() == (200, b"1")


async def test_scrapers_that_come_meanwhile_share_the_next_page_and_get_none_begun_before() -> None:
    slow = Slow()
    async with exposing(slow) as port:
        scrapers = [await port.call() for _ in range(6)]
        await scrapers[0].send(GET)
        await until(lambda: slow.begun == 1)
        for scraper in scrapers[1:]:
            await scraper.send(GET)
        assert (await port.round_trip(target="/elsewhere"))[0] == 404  # they have been read by now
        scrapers[5].writer.close()  # who leaves takes no one's page along
        slow.going.release(6)
        assert [await scraper.answer() for scraper in scrapers[:5]] == [
            (200, b"1"),
            *[(200, b"2")] * 4,
        ]
        assert slow.begun == 2


async def test_scrapers_share_a_page_whose_form_they_ask_for_each_in_a_way_of_its_own() -> None:
    slow = Slow()
    async with exposing(slow) as port:
        scrapers = [await port.call() for _ in range(41)]
        await scrapers[0].send(GET)
        await until(lambda: slow.begun == 1)
        for n, scraper in enumerate(scrapers[1:]):
            odd = (
                "text/plain;version=0.%d",
                "application/openmetrics-text;version=%d.1",
                "text/plain;version=x%d",
                "%d/*",
            )
            await scraper.send(
                request(
                    b"",
                    f"Accept: {odd[n % 4] % n}",
                    f"Accept-Encoding: {n}",
                    method="GET",
                    target="/metrics",
                )
            )
        assert (await port.round_trip(target="/elsewhere"))[0] == 404  # they have been read by now
        slow.going.release(len(scrapers))
        assert {await scraper.answer() for scraper in scrapers[1:]} == {(200, b"2")}


@pytest.fixture
def key_file(tmp_path: Path) -> tuple[Path, str, str]:
    """A key file with an admin's key and another's, and what shows them."""
    path = tmp_path / "keys.json"
    texts = []
    for name, admin in (("ops", True), ("shop", False)):
        key, text = issue(name, utc_now(), admin=admin)
        add_key(path, key)
        texts.append(f"Authorization: Bearer {text}")
    return path, texts[0], texts[1]


async def test_beyond_loopback_an_admins_key_or_the_platforms_own_token_is_needed(
    key_file: tuple[Path, str, str],
) -> None:
    path, admins, others = key_file
    async with exposing(host=OPEN_ADDRESS, readers=Readers("the token", path)) as port:
        async with asyncio.timeout(IN_TIME_S):
            while (await port.round_trip(admins))[0] != 200:  # until the file is read
                pass
        expected = {
            admins: 200,
            "Authorization: Bearer the token": 200,
            others: 403,
            "X-Nothing: given": 401,
            "Authorization: Bearer the toke": 401,
            "Authorization: Bearer ": 401,
            "Authorization: Bearer \u00e9": 401,
        }
        assert {header: (await port.round_trip(header))[0] for header in expected} == expected


async def test_without_keys_beyond_loopback_the_platform_alone_may_read() -> None:
    async with exposing(host=OPEN_ADDRESS, readers=Readers("the token")) as port:
        assert (await port.round_trip("Authorization: Bearer the token"))[0] == 200
        assert (await port.round_trip())[0] == 401


async def test_nobody_has_an_empty_token() -> None:
    async with exposing(host=OPEN_ADDRESS) as port:
        assert (await port.round_trip("Authorization: Bearer "))[0] == 401


async def test_a_network_that_is_declared_closed_needs_no_key() -> None:
    async with exposing(host=OPEN_ADDRESS, readers=Readers("the token", is_open=True)) as port:
        assert (await port.round_trip())[0] == 200


async def test_on_loopback_nobody_is_asked(key_file: tuple[Path, str, str]) -> None:
    async with exposing(readers=Readers("the token", key_file[0])) as port:
        assert (await port.round_trip())[0] == 200
