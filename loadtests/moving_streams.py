"""Streams of audio while replicas come and go, on Ray Serve: none is lost, and each is heard as if
nothing happened.

    python -m loadtests.moving_streams

50 streams send 96 ms of audio every 96 ms to a platform with two replicas of silero-vad. During the
first run a new version of the model is loaded, which takes over and ends the old one; during the
second the model is scaled down to one replica. Every probability is compared with that of an
uninterrupted run. Exit status 1 if a stream was lost or wrong.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from loadtests.streams import CHUNK_S, MODEL, hum, probabilities, run_streams, tell
from loadtests.support.checkout import REPOSITORY
from loadtests.support.ports import HOST, free_port
from rich.console import Console

from headrace.admin.settings import AdminSettings
from headrace.config import ModelSettings, Settings, prepare_ray
from headrace.gateway.settings import GatewaySettings
from headrace.process.own_folder import begin_run
from headrace_models.repository import scan

STREAMS, REPLICAS = 50, 2


class _RayPlatform:
    """A platform that this process runs, and the changes that it goes through."""

    def __init__(self, settings: Settings) -> None:
        # prepare_ray comes first: to import these reads the environment that it sets.
        from headrace import app
        from headrace.operation.operator import Operator
        from headrace.operation.workers import FleetMembers

        self._settings = settings
        self._ended = threading.Event()
        versions, _ = scan(settings.models, [MODEL])
        self._applications = app.deploy(settings, versions, self._ended)
        failed = app.wait_until_ready(versions, lambda _: None, self._ended)
        self._operator = Operator(
            settings.models, self._applications, FleetMembers(), versions, failed
        )
        app.wait_for_gateway(settings, self._ended)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._settings.gateway.port}"

    def serving(self) -> str:
        """The version of each replica that serves."""
        # prepare_ray comes first: to import these reads the environment that it sets.
        from headrace.fleet.calls import read_fleet

        return ", ".join(f"version {replica.spec.version}" for replica in read_fleet().replicas)

    def update(self) -> None:
        """Load version 2, which is version 1 by another number; version 1 ends."""
        folder = self._settings.models / MODEL / "2"
        shutil.copytree(self._settings.models / MODEL / "1", folder)
        spec = folder / "model.toml"
        text = spec.read_text(encoding="utf-8").replace('version = "1"', 'version = "2"')
        spec.write_text(text, encoding="utf-8")
        self._operator.load(MODEL)

    def shrink(self) -> None:
        """Scale the newest version down to one replica, as an external scaler does."""
        # prepare_ray comes first: to import these reads the environment that it sets.
        import ray
        from ray.serve._private.common import DeploymentID
        from ray.serve.context import _get_global_client

        newest = scan(self._settings.models, [MODEL])[0][0].spec.version
        client = _get_global_client()
        assert client is not None
        deployment = DeploymentID(name="replica", app_name=f"{MODEL}@{newest}")
        # There is no public call of it; over HTTP it is POST .../deployments/replica/scale, of
        # Ray's dashboard.
        ray.get(client._controller.update_deployment_replicas.remote(deployment, 1), timeout=30)


@contextmanager
def _ray_platform(models: Path) -> Iterator[_RayPlatform]:
    run = begin_run()
    prepare_ray(run, print)
    # prepare_ray comes first: to import these reads the environment that it sets.
    from headrace import app

    settings = Settings(
        models=models,
        gateway=GatewaySettings(host=HOST, port=free_port()),
        admin=AdminSettings(host=HOST, port=free_port()),
        model={MODEL: ModelSettings(replicas=REPLICAS)},
    )
    app.start_ray(run)
    try:
        yield _RayPlatform(settings)
    finally:
        app.stop()
        app.stop_ray()


def _through(
    platform: _RayPlatform, name: str, change: Callable[[], None], seconds: float, console: Console
) -> bool:
    """Stream while `change` happens, a third of the way in. True if nothing was lost or wrong."""
    version = scan(REPOSITORY, [MODEL])[0][0]
    pcm = hum(round(seconds / CHUNK_S))
    expected = probabilities(version, pcm)
    changing = threading.Timer(seconds / 3, change)
    changing.start()
    found = uvloop.run(
        run_streams(
            platform.url, STREAMS, pcm, expected, is_paced=True, prefix=name.replace(" ", "-")
        )
    )
    changing.join()
    tell(console, f"{STREAMS} streams through {name}, which left {platform.serving()}", found)
    return not found.lost and not found.wrong


def main(
    seconds: Annotated[
        float, typer.Option(min=15, help="How long the streams are, each time.")
    ] = 45.0,
) -> None:
    """Stream through a rolling update and through a scale-down.

    Example: python -m loadtests.moving_streams --seconds 30
    """
    console = Console(soft_wrap=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="streams-") as temporary:
        shutil.copytree(REPOSITORY / MODEL, Path(temporary) / MODEL)
        with _ray_platform(Path(temporary)) as platform:
            are_whole = [
                _through(platform, "a rolling update", platform.update, seconds, console),
                _through(platform, "a scale-down", platform.shrink, seconds, console),
            ]
    raise typer.Exit(0 if all(are_whole) else 1)


if __name__ == "__main__":
    typer.run(main)
