"""The command line's view of a running platform, through its admin port."""

import http.client
from collections.abc import Mapping
from typing import Any

import orjson

from headrace.errors import StartFailed

__all__ = ["read_health"]

_TIMEOUT_S = 5.0


def read_health(admin: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """What `/healthz` says. Raises StartFailed if nobody answers at `admin` (`host:port`), or it asks for a key."""
    connection = http.client.HTTPConnection(admin, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz", headers=dict(headers))
        answer = connection.getresponse()
        document: dict[str, Any] = orjson.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        raise StartFailed(f"no platform answers at {admin}; start one with: headrace serve") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise StartFailed(f"{admin}: {document['error']}; set HEADRACE_KEY to an admin's key")
    return document
