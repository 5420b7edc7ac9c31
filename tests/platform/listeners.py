"""The sockets on which a platform's processes listen, as the kernel lists them."""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["listeners"]

_LISTEN = "0A"


def listeners(pids: set[int]) -> Iterator[tuple[str, int, str]]:
    """Address, port and command of each TCP socket that one of these processes listens on."""
    sockets = dict(_listening("tcp")) | dict(_listening("tcp6"))
    for pid in sorted(pids):
        with suppress(OSError):
            command = (
                Path(f"/proc/{pid}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
                .strip()
            )
            for inode in {
                str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()
            } & sockets.keys():
                yield (*sockets[inode], command)


def _listening(table: str) -> Iterator[tuple[str, tuple[str, int]]]:
    for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == _LISTEN:
            address, port = local.split(":")
            yield f"socket:[{inode}]", (_plain(address), int(port, 16))


def _plain(address: str) -> str:
    """Of words in the machine's order, which is little-endian here."""
    words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
    found = ipaddress.ip_address(b"".join(words))
    return (
        str(found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else str(found)
    )
