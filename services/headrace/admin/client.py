"""The command line's view of a running platform, through its admin port."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from headrace.edge.probe import Reply, fetch
from headrace.errors import StartFailed

__all__ = ["read_health"]

_TIMEOUT_S = 5.0
_FIELDS = {"replicas", "troubles", "missing"}


def read_health(admin: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The document of `/healthz` at `admin` (`host:port`).

    Raises StartFailed if no admin port answers there, or if it asks for a key.
    """
    address = _address(admin)
    try:
        reply = fetch(f"http://{address}/healthz", _TIMEOUT_S, headers=headers)
    except OSError:
        raise StartFailed(
            f"no platform answers at {admin}; start one with: headrace serve"
        ) from None
    return _checked(admin, reply)


def _address(admin: str) -> str:
    """`host:port`, also of `http://host:port/`. Raises StartFailed for anything else."""
    try:
        url = urlsplit(admin if "://" in admin else f"http://{admin}")
        if url.scheme == "http" and url.hostname and url.port and url.path in ("", "/"):
            return url.netloc
    except ValueError:  # a port that is not a number, or unbalanced brackets
        pass
    raise StartFailed(f"--admin: expected HOST:PORT or http://HOST:PORT, found {admin}")


def _checked(admin: str, reply: Reply) -> dict[str, Any]:
    document = reply.document
    if reply.status == 200 and document.keys() >= _FIELDS:
        return document
    if reply.status in (401, 403):
        reason = document.get("error", "it asks for a key")
        raise StartFailed(f"{admin}: {reason}; set HEADRACE_KEY to an admin's key")
    if reply.status in (200, 404):
        raise StartFailed(
            f"{admin} is not headrace's admin port; "
            "expected port 8001, or the one that --admin-port set"
        )
    raise StartFailed(f"{admin}: {document.get('error', f'it answers {reply.status}')}")
