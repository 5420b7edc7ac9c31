"""The repository's index on the data port: what is served to the caller. Changes are the admin port's."""

from dataclasses import asdict

from headrace.edge.bodies import read_body
from headrace.edge.exchange import Exchange, Response
from headrace.edge.management import IndexBody
from headrace.fleet.instructions import IndexEntry
from headrace.gateway.api.context import Context, json_response, visible
from headrace.gateway.routing.version import Version

__all__ = ["index"]

_SILENT = "none of its replicas answers now"


async def index(at: Context, exchange: Exchange, body: bytes) -> Response:
    """The versions of the models that are served and that the caller may use; with `ready` those that can answer now.

    Models are loaded and unloaded on the admin port, whose index lists the others too.
    """
    is_ready_wanted = read_body(IndexBody, body or b"{}").ready
    models = at.router.models()
    versions = [version for name in visible(at, exchange) for version in models[name].values()]
    return json_response(
        [asdict(_entry(version)) for version in versions if version.is_sound or not is_ready_wanted]
    )


def _entry(version: Version) -> IndexEntry:
    name, number = version.spec.name, version.spec.version
    if version.is_sound:
        return IndexEntry(name, number, "READY")
    return IndexEntry(name, number, "UNAVAILABLE", version.trouble or _SILENT)
