"""Triton's two HTTP clients behind one way of calling them."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from inspect import getmembers, isawaitable, isroutine
from pathlib import Path
from typing import Any

import gevent.ssl
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio

__all__ = ["CLIENTS", "Call", "methods_of"]

CLIENTS: dict[str, Any] = {
    "sync": triton.InferenceServerClient,
    "aio": triton_aio.InferenceServerClient,
}


def methods_of(name: str) -> list[str]:
    """Every public method of a client."""
    return [
        method for method, _ in getmembers(CLIENTS[name], isroutine) if not method.startswith("_")
    ]


@dataclass(frozen=True)
class Call:
    """Calls of one of the clients, each on a new client; over TLS with a `certificate`."""

    name: str
    port: int
    certificate: Path | None = None

    @property
    def kind(self) -> Any:
        return CLIENTS[self.name]

    def __call__(self, what: str | Callable[[Any], Any], *arguments: Any, **options: Any) -> Any:
        """The result of a method, or of a function of the open client, awaited if need be."""
        if isinstance(what, str):
            return self(lambda client: getattr(client, what)(*arguments, **options))
        return self._sync(what) if self.name == "sync" else asyncio.run(self._aio(what))

    def _sync(self, use: Callable[[Any], Any]) -> Any:
        client = self.kind(
            f"127.0.0.1:{self.port}",
            ssl=self.certificate is not None,
            ssl_context_factory=lambda: gevent.ssl.create_default_context(cafile=self.certificate),
        )
        try:
            return use(client)
        finally:
            client.close()

    async def _aio(self, use: Callable[[Any], Any]) -> Any:
        trusted = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        async with self.kind(
            f"127.0.0.1:{self.port}", ssl=trusted is not None, ssl_context=trusted
        ) as client:
            answer = use(client)
            return await answer if isawaitable(answer) else answer
