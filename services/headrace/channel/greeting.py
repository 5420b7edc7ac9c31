"""How both ends of a channel prove that they have its token without telling it.

A proof holds for one replica: whoever listens where a replica was learns nothing that opens another's channel.
"""

import hmac
import secrets
from typing import Literal

import msgspec

from headrace.channel.frames import Hello, Welcome

__all__ = ["Greeting", "answer_to"]


class Greeting:
    """A gateway's word to the replica that is called `place`, and the answer that it expects."""

    def __init__(self, token: str, place: str) -> None:
        nonce = secrets.token_bytes(16)
        self.hello = Hello(nonce, _proof(token, "gateway", nonce, place))
        self._expected = _proof(token, "replica", nonce, place)

    def is_answered_by(self, welcome: Welcome) -> bool:
        return hmac.compare_digest(welcome.proof, self._expected)


def answer_to(hello: Hello, welcome: Welcome, token: str, place: str) -> Welcome | None:
    """What the replica at `place` says to a gateway; None to a stranger."""
    if not hmac.compare_digest(hello.proof, _proof(token, "gateway", hello.nonce, place)):
        return None
    return msgspec.structs.replace(welcome, proof=_proof(token, "replica", hello.nonce, place))


def _proof(token: str, role: Literal["gateway", "replica"], nonce: bytes, place: str) -> bytes:
    return hmac.digest(token.encode(), msgspec.msgpack.encode((role, nonce, place)), "sha256")
