"""Log and trace settings as Triton's clients ask for them on the data port."""

from typing import cast

from headrace.edge.exchange import Exchange, Response
from headrace.edge.management import (
    changed_logging,
    check_tracing,
    logging_document,
    tracing_document,
)
from headrace.errors import BadRequest, Forbidden
from headrace.gateway.api.context import Context, version_of
from headrace.keys import Key
from headrace.telemetry import logs

__all__ = ["get_logging", "get_tracing", "no_shared_memory", "set_logging", "set_tracing"]


async def get_logging(_: Context, __: Exchange, ___: bytes) -> Response:
    """What the processes of the platform log."""
    return Response(200, logging_document(logs.current()))


async def set_logging(at: Context, exchange: Exchange, body: bytes) -> Response:
    """Change what is listed, in every process of the platform; gives the whole settings. With keys: an admin's."""
    key = cast(Key | None, exchange.key)
    if key is not None and not key.admin:
        raise Forbidden("expected an admin's key")
    return Response(
        200, logging_document(await at.change_logging(changed_logging(logs.current(), body)))
    )


async def get_tracing(at: Context, exchange: Exchange, _: bytes) -> Response:
    """Tracing is off: of the server, and of a model."""
    if "model" in exchange.params:
        version_of(at, exchange)
    return Response(200, tracing_document())


async def set_tracing(at: Context, exchange: Exchange, body: bytes) -> Response:
    """Tracing may be set to what it is."""
    if "model" in exchange.params:
        version_of(at, exchange)
    check_tracing(body)
    return Response(200, tracing_document())


async def no_shared_memory(_: Context, __: Exchange, ___: bytes) -> Response:
    """Triton's shared memory extensions are not here: every request of theirs is refused."""
    raise BadRequest("shared memory is not supported; send the data")
