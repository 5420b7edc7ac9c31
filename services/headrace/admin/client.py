"""The command line's view of a running platform, through its admin port."""

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from headrace.errors import StartFailed

__all__ = ["read_health"]

_TIMEOUT_S = 5.0
_PARTS = {"replicas", "troubles", "missing"}


def read_health(admin: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """What `/healthz` says. Raises StartFailed if no admin port answers at `admin` (`host:port`), or it wants a key."""
    connection = http.client.HTTPConnection(_place(admin), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz", headers=dict(headers))
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException):
        raise StartFailed(
            f"no platform answers at {admin}; start one with: headrace serve"
        ) from None
    finally:
        connection.close()
    return _understood(admin, answer.status, text)


def _place(admin: str) -> str:
    """`host:port`, also of `http://host:port/`. Raises StartFailed for anything else."""
    try:
        url = urlsplit(admin if "://" in admin else f"http://{admin}")
        if url.scheme == "http" and url.hostname and url.port and url.path in ("", "/"):
            return url.netloc
    except ValueError:  # a port that is no number, or brackets that do not fit
        pass
    raise StartFailed(f"--admin: expected HOST:PORT or http://HOST:PORT, found {admin}")


def _understood(admin: str, status: int, text: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except ValueError:
        document = None
    said = document if isinstance(document, dict) else {}
    if status == 200 and said.keys() >= _PARTS:
        return said
    if status in (401, 403):
        raise StartFailed(
            f"{admin}: {said.get('error', 'it asks for a key')}; set HEADRACE_KEY to an admin's key"
        )
    if status in (200, 404):
        raise StartFailed(
            f"{admin} is not an admin port of headrace: that is 8001, or what --admin-port set"
        )
    raise StartFailed(f"{admin}: {said.get('error', f'it answers {status}')}")
