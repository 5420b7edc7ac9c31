"""TLS by real handshakes on loopback, and certificates that are replaced while the server runs."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from loadtests.support.virtual_time import run
from tests.keys.certificates import write_pair

from headrace.errors import StartFailed
from headrace.keys.tls import follow_certificate, make_context, renew


class Pair(NamedTuple):
    certificate: Path
    key: Path


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path / "tls.crt", tmp_path / "tls.key")


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server on loopback, which sends one line after each handshake; gives its port."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def shake_hands(port: int, trusted: Path) -> tuple[int, str | None]:
    """The serial number of the server's certificate, and the protocol that it picks."""
    client = ssl.create_default_context(cafile=trusted)
    client.set_alpn_protocols(["h2", "http/1.1"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
    try:
        assert await reader.readline() == b"hello\n"
        made: ssl.SSLObject = writer.get_extra_info("ssl_object")
        shown = made.getpeercert()
        assert shown is not None
        return int(str(shown["serialNumber"]), 16), made.selected_alpn_protocol()
    finally:
        writer.close()


async def test_a_handshake_shows_the_certificate_and_speaks_http_1(pair: Pair) -> None:
    serial = write_pair(*pair)
    async with serving(make_context(*pair)) as port:
        assert await shake_hands(port, pair.certificate) == (serial, "http/1.1")


async def test_a_new_certificate_is_shown_without_a_restart(pair: Pair) -> None:
    first = write_pair(*pair)
    context = make_context(*pair)
    async with serving(context) as port:
        assert (await shake_hands(port, pair.certificate))[0] == first
        second = write_pair(*pair)
        renew(context, *pair)
        assert (await shake_hands(port, pair.certificate))[0] == second != first


async def test_half_a_new_pair_leaves_the_old_one_in_place(pair: Pair, tmp_path: Path) -> None:
    serial = write_pair(*pair)
    trusted = Path(shutil.copy(pair.certificate, tmp_path / "old.crt"))
    context = make_context(*pair)
    async with serving(context) as port:
        write_pair(pair.certificate, tmp_path / "not yet there.key")
        with pytest.raises(
            StartFailed,
            match=r"tls\.key: expected the private key of .*tls\.crt, found the key of another",
        ):
            renew(context, *pair)
        assert (await shake_hands(port, trusted))[0] == serial


def test_the_files_are_followed(pair: Pair) -> None:
    write_pair(*pair)
    context = make_context(*pair)

    async def program() -> int:
        following = asyncio.create_task(follow_certificate(context, *pair))
        await asyncio.sleep(3)
        serial = write_pair(*pair)
        await asyncio.sleep(3)
        following.cancel()
        return serial

    assert run(program()) == serial_shown(context, pair.certificate)


def serial_shown(context: ssl.SSLContext, trusted: Path) -> int:
    """The serial number of a context's certificate, by a handshake."""

    async def program() -> int:
        async with serving(context) as port:
            return (await shake_hands(port, trusted))[0]

    return asyncio.run(program())


def test_nothing_older_than_tls_1_2_is_spoken(pair: Pair) -> None:
    write_pair(*pair)
    assert make_context(*pair).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_that_others_can_read_is_refused(pair: Pair) -> None:
    write_pair(*pair)
    pair.key.chmod(0o640)
    with pytest.raises(
        StartFailed, match=r"tls\.key: expected mode 0600, or 0440 for a mounted secret, found 0640"
    ):
        make_context(*pair)


def test_a_key_that_is_mounted_as_secrets_are_is_taken(pair: Pair) -> None:
    write_pair(*pair)
    pair.key.chmod(0o440)
    make_context(*pair)


def test_a_missing_file_is_named(pair: Pair) -> None:
    with pytest.raises(StartFailed, match=r"cannot read .*tls\.key: No such file"):
        make_context(*pair)
    write_pair(*pair)
    pair.certificate.unlink()
    with pytest.raises(StartFailed, match=r"cannot read .*tls\.crt.*: No such file"):
        make_context(*pair)


def test_a_key_with_a_password_and_a_file_that_is_not_pem_are_refused(pair: Pair) -> None:
    write_pair(*pair, password=b"closed")
    with pytest.raises(
        StartFailed, match="expected a PEM certificate and its private key without a password"
    ):
        make_context(*pair)
    write_pair(*pair)
    pair.certificate.write_text("no certificate", encoding="utf-8")
    with pytest.raises(StartFailed, match="expected a PEM certificate"):
        make_context(*pair)
