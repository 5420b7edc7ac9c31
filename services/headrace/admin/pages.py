"""The admin port's pages, as an ASGI application over the fleet."""

import asyncio
import http.client
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from headrace.admin.repository import Desk
from headrace.admin.repository_pages import answer
from headrace.fleet.entries import Fleet, ProcessEntry
from headrace.telemetry.exposition import merge

__all__ = ["AdminPages"]

log = logging.getLogger(__name__)

_SCRAPE_TIMEOUT_S = 2.0
_JSON = "application/json"


class AdminPages:
    """`/metrics` of all processes on one page, `/sd` for Prometheus, `/healthz`."""

    def __init__(self, desk: Desk) -> None:
        self.fleet = Fleet(0, (), (), ())
        self._desk = desk

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:  # noqa: ANN401
        pages = {"/metrics": self._metrics, "/sd": self._discovery, "/healthz": self._health}
        page = pages.get(scope["path"])
        if scope["path"].startswith("/v2/"):
            status, body, content_type, _ = await answer(self._desk, scope, receive)
            kind = content_type.decode()
        elif page is None:
            status, kind, body = 404, _JSON, orjson.dumps({"error": "no such page", "code": "not_found"})
        elif scope["method"] != "GET":
            status, kind, body = 405, _JSON, orjson.dumps({"error": "expected GET", "code": "method_not_allowed"})
        else:
            kind, body = await page()
            status = 200
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _metrics(self) -> tuple[str, bytes]:
        processes = self.fleet.processes
        pages = await asyncio.gather(*(asyncio.to_thread(_scrape, p.metrics) for p in processes))
        named = {f"{p.role}-{p.id}": page for p, page in zip(processes, pages, strict=True) if page}
        return CONTENT_TYPE_LATEST, merge(named)

    async def _discovery(self) -> tuple[str, bytes]:
        """Prometheus' HTTP service discovery: one target a process."""
        return _JSON, orjson.dumps([{"targets": [p.metrics], "labels": _labels(p)} for p in self.fleet.processes])

    async def _health(self) -> tuple[str, bytes]:
        served = sorted({r.spec.name for r in self.fleet.replicas})
        missing = sorted(set(self.fleet.models) - set(served))
        replicas = [
            {"id": r.id, "model": r.spec.name, "version": r.spec.version, "backend": r.backend, "node": r.address.node}
            for r in self.fleet.replicas
        ]
        processes = [{"id": p.id, "role": p.role, "pid": p.pid, "node": p.node} for p in self.fleet.processes]
        document = {"models": served, "missing": missing, "replicas": replicas, "processes": processes}
        return _JSON, orjson.dumps(document)


def _labels(process: ProcessEntry) -> dict[str, str]:
    return {"role": process.role, "process": process.id, "node": process.node}


def _scrape(target: str) -> str:
    """A process's page; empty if it does not answer in time, for one dead process must not hide the others."""
    connection = http.client.HTTPConnection(target, timeout=_SCRAPE_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        log.warning("%s gave no metrics", target)
        return ""
    finally:
        connection.close()
