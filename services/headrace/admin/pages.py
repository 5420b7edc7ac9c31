"""The admin port's pages: all metrics on one page, Prometheus' discovery, and health."""

import asyncio
import logging
from dataclasses import asdict

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from headrace import __version__
from headrace.admin.repository import AdminContext
from headrace.edge.exchange import Call, Response
from headrace.edge.probe import fetch
from headrace.fleet.entries import ProcessEntry
from headrace.telemetry.exposition import merge

__all__ = ["discovery", "health", "metrics", "server_metadata"]

log = logging.getLogger(__name__)

_SCRAPE_TIMEOUT_S = 2.0
EXTENSIONS = ("logging", "model_repository")


async def server_metadata(call: Call[AdminContext]) -> Response:
    return Response(
        200, orjson.dumps({"name": "headrace", "version": __version__, "extensions": EXTENSIONS})
    )


async def metrics(call: Call[AdminContext]) -> Response:
    context = call.context
    processes = context.fleet().processes
    pages = await asyncio.gather(
        *(asyncio.to_thread(_scrape, p.metrics, context.metrics_token) for p in processes)
    )
    named = {f"{p.role}-{p.id}": page for p, page in zip(processes, pages, strict=True) if page}
    return Response(200, await asyncio.to_thread(merge, named), CONTENT_TYPE_LATEST.encode())


async def discovery(call: Call[AdminContext]) -> Response:
    """Prometheus' HTTP service discovery: one target per process."""
    return Response(
        200,
        orjson.dumps(
            [{"targets": [p.metrics], "labels": _labels(p)} for p in call.context.fleet().processes]
        ),
    )


async def health(call: Call[AdminContext]) -> Response:
    """The models that are served, missing or in trouble, and the processes that serve them."""
    fleet = call.context.fleet()
    served = sorted({r.spec.name for r in fleet.replicas})
    replicas = [
        {
            "id": r.id,
            "model": r.spec.name,
            "version": r.spec.version,
            "backend": r.backend,
            "node": r.address.node,
        }
        for r in fleet.replicas
    ]
    processes = [
        {"id": p.id, "role": p.role, "pid": p.pid, "node": p.node} for p in fleet.processes
    ]
    missing = sorted(set(fleet.models) - set(served))
    troubles = [asdict(trouble) for trouble in fleet.troubles]
    document = {
        "models": served,
        "missing": missing,
        "troubles": troubles,
        "replicas": replicas,
        "processes": processes,
    }
    return Response(200, orjson.dumps(document))


def _labels(process: ProcessEntry) -> dict[str, str]:
    return {"role": process.role, "process": process.id, "node": process.node}


def _scrape(target: str, token: str) -> str:
    """A process's page of metrics; empty without an answer: a dead process must not hide others."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        reply = fetch(f"http://{target}/metrics", _SCRAPE_TIMEOUT_S, headers=headers)
    except OSError as error:
        log.warning("%s: no metrics: %s", target, error)
        return ""
    if reply.status != 200:
        log.warning("%s: no metrics: it answers %d", target, reply.status)
        return ""
    return reply.body.decode()
