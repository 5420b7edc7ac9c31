"""The greeting, by which both ends of a channel show that they have its token without sending it.

Each sends a MAC, which holds for one replica: whoever listens at a former replica's address learns
nothing that opens the channel of another.
"""

import hmac
import secrets
from typing import Literal

import msgspec

from headrace.channel.frames import Hello, Welcome

__all__ = ["Greeting", "answer_to"]


class Greeting:
    """A gateway's `hello` to the replica with this name, and the answer that it expects."""

    def __init__(self, token: str, name: str) -> None:
        nonce = secrets.token_bytes(16)
        self.hello = Hello(nonce, _mac(token, "gateway", nonce, name))
        self._expected = _mac(token, "replica", nonce, name)

    def is_answered_by(self, welcome: Welcome) -> bool:
        return hmac.compare_digest(welcome.mac, self._expected)


def answer_to(hello: Hello, welcome: Welcome, token: str, name: str) -> Welcome | None:
    """The replica's `welcome` with the MAC for this gateway; None for one without the token."""
    if not hmac.compare_digest(hello.mac, _mac(token, "gateway", hello.nonce, name)):
        return None
    return msgspec.structs.replace(welcome, mac=_mac(token, "replica", hello.nonce, name))


def _mac(token: str, role: Literal["gateway", "replica"], nonce: bytes, name: str) -> bytes:
    return hmac.digest(token.encode(), msgspec.msgpack.encode((role, nonce, name)), "sha256")
