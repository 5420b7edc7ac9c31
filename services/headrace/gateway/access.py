"""What the data port asks of a request: a key and its quota, room, and a kind of body that the api reads."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from typing import cast

from headrace.edge.changes import Changes
from headrace.edge.cors import PREFLIGHT
from headrace.edge.exchange import Exchange
from headrace.edge.problems import LEFT
from headrace.errors import OUTCOMES
from headrace.gateway.admission import Admission
from headrace.gateway.api.context import may_use
from headrace.gateway.api.endpoints import ALWAYS_ANSWERED, PUBLIC_PATHS
from headrace.gateway.api.media import check_media
from headrace.keys import Key, KeyRing
from headrace.telemetry.events import GatewayEvents

__all__ = ["DataPolicy", "watch_loop"]

# A block is seen but for the part of it in which no timer was due; so the period is well below what matters.
_LAG_PERIOD_S = 0.02
_FREE = nullcontext()
# Context whose bodies have a few fields, which are read on the loop: the most that one may take of it is a few ms.
_SMALL_BODIES = frozenset({"metadata", "settings"})
_MAX_SMALL_BODY_BYTES = 8 << 10


class DataPolicy:
    """The data port's policy. Without `keys` nobody needs one; with them, all but health does.

    `bodies` are the most bytes of a body for models that have a limit of their own. `changes` are whose may be made.
    """

    def __init__(
        self,
        admission: Admission,
        events: GatewayEvents,
        keys: KeyRing | None,
        bodies: Mapping[str, int],
        changes: Changes,
    ) -> None:
        self._admission = admission
        self._events = events
        self._keys = keys
        self._bodies = bodies
        self._changes = changes
        events.watch_in_flight(lambda: admission.in_flight)

    def admit(self, exchange: Exchange, template: str) -> None:
        if self._keys is not None and template not in PUBLIC_PATHS and exchange.api != PREFLIGHT:
            key = self._keys.authenticate(exchange.header(b"authorization"))
            self._keys.take(key)
            exchange.key = key
        if exchange.api not in ALWAYS_ANSWERED:
            self._admission.check(_owner(exchange))
        if exchange.method == "POST":
            check_media(exchange.api, exchange)
            if exchange.api == "settings":
                self._changes.check(exchange)
            self._limit_body(exchange)

    def _limit_body(self, exchange: Exchange) -> None:
        model = exchange.params.get("model", "")
        if exchange.api in _SMALL_BODIES:
            exchange.max_body_bytes = min(exchange.max_body_bytes, _MAX_SMALL_BODY_BYTES)
        elif model in self._bodies and may_use(exchange, model):
            exchange.max_body_bytes = self._bodies[model]

    def place(self, exchange: Exchange) -> AbstractContextManager[None]:
        return _FREE if exchange.api in ALWAYS_ANSWERED else self._admission.slot(_owner(exchange))

    def ended(self, exchange: Exchange, status: int, code: str) -> None:
        if self._keys is not None and exchange.key is not None:
            self._keys.give_back(cast(Key, exchange.key))
            exchange.key = None
        events, api = self._events, exchange.api
        outcome = OUTCOMES[code] if code else "left" if status == LEFT else "answered"
        events.request_ended(
            exchange.model,
            exchange.version,
            api,
            status,
            outcome,
            monotonic() - exchange.received_s,
        )
        if exchange.method == "POST":
            events.body_received(api, exchange.received_s - exchange.began_s)
        if code:
            events.request_failed(code)


def _owner(exchange: Exchange) -> str:
    """The id of the key that asks; empty where none is needed."""
    key = cast(Key | None, exchange.key)
    return "" if key is None else key.id


async def watch_loop(events: GatewayEvents, clock: Callable[[], float] = monotonic) -> None:
    """Tell how late the loop runs a timer, for as long as the gateway lives."""
    while True:
        due_s = clock() + _LAG_PERIOD_S
        await asyncio.sleep(_LAG_PERIOD_S)
        events.loop_lagged(max(0.0, clock() - due_s))
