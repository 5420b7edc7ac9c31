"""The command line's view of a running platform, through its admin port."""

import http.client
from typing import Any

import orjson

from headrace.errors import StartFailed

__all__ = ["read_health"]

_TIMEOUT_S = 5.0


def read_health(admin: str) -> dict[str, Any]:
    """What `/healthz` says. Raises StartFailed if nobody answers at `admin` (`host:port`)."""
    connection = http.client.HTTPConnection(admin, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        document: dict[str, Any] = orjson.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        raise StartFailed(f"no platform answers at {admin}; start one with: headrace serve") from None
    finally:
        connection.close()
    return document
