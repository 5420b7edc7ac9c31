"""Settings, read once: `headrace.toml`, the command line over it, and the environment.

Nothing else reads the environment. The sections stand beside the parts that they tune.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from headrace.admin.settings import AdminSettings
from headrace.errors import StartFailed
from headrace.gateway.settings import GatewayModelSettings, GatewaySettings
from headrace.keys.private import make_private, replace_private
from headrace_models.errors import BadSpec
from headrace_models.spec import BackendName
from headrace_models.strict_toml import Table, complaint, read_toml

__all__ = [
    "ModelSettings",
    "Objectives",
    "Settings",
    "cluster_address",
    "own_authorization",
    "prepare_ray",
    "read_settings",
    "with_options",
]

CONFIG_FILE = Path("headrace.toml")


class ModelSettings(GatewayModelSettings):
    """Changes to a model's own spec, and its cache."""

    replicas: int | None = Field(
        default=None, ge=1, description="Processes of the model; those of its spec if not set."
    )
    backend: BackendName | None = Field(
        default=None, description="Another of the model's backends than its spec's."
    )
    cpus: float | None = Field(
        default=None, gt=0, description="Cores of each process; those of its spec if not set."
    )
    gpus: float | None = Field(
        default=None, ge=0, description="GPUs of each process; those of its spec if not set."
    )


class Objectives(Table):
    """Objectives that a load test holds a model to."""

    p99_ms: float | None = Field(
        default=None, gt=0, description="Longest 99th percentile of the response time."
    )
    min_rate: float | None = Field(
        default=None, ge=0, description="Fewest requests answered a second."
    )
    max_failure_ratio: float = Field(
        default=0.0, ge=0, le=1, description="Largest share of requests that fail."
    )


class Settings(Table):
    """`headrace.toml`."""

    models: Path = Field(
        default=Path("models/repository"), description="The model repository's folder."
    )
    serve: tuple[str, ...] = Field(
        default=(), description="Models to serve; all of the repository if empty."
    )
    gateway: GatewaySettings = GatewaySettings()
    admin: AdminSettings = AdminSettings()
    model: dict[str, ModelSettings] = Field(default={})
    objectives: dict[str, Objectives] = Field(default={})


def read_settings(path: Path | None) -> Settings:
    """The settings of a file, or of `headrace.toml` in this folder if it exists.

    Raises StartFailed.
    """
    if path is None and not CONFIG_FILE.exists():
        return Settings()
    try:
        return read_toml(Settings, path or CONFIG_FILE)
    except BadSpec as error:
        raise StartFailed(str(error)) from None


def with_options(settings: Settings, options: Mapping[tuple[str, ...], object]) -> Settings:
    """The settings with options of the command line over them.

    An option is a path, such as `("gateway", "port")`, and a value; None leaves the setting.

    The bounds are those of the file. Raises StartFailed, naming the option.
    """
    document = settings.model_dump()
    for path, value in options.items():
        table = document[path[0]] if len(path) == 2 else document
        if value is not None:
            table[path[-1]] = value
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StartFailed(f"{_option(first['loc'])}: {complaint(first)}") from None


def _option(path: tuple[int | str, ...]) -> str:
    """The option's name: the gateway's options have no prefix."""
    return "--" + "-".join(str(step).replace("_", "-") for step in path if step != "gateway")


def cluster_address() -> str | None:
    """The Ray cluster to join, by RAY_ADDRESS; None starts one on this machine, as "local" does."""
    address = os.environ.get("RAY_ADDRESS")
    return None if address in ("", "local") else address


def own_authorization() -> dict[str, str]:
    """The Authorization header of this user's requests, by HEADRACE_KEY; none if no key is set."""
    key = os.environ.get("HEADRACE_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def prepare_ray(run: Path, warn: Callable[[str], None]) -> None:
    """Set the environment of Ray and its workers; a value that is set already is kept.

    If a node is started here, the secret that opens Ray's ports lies in `run`, which no other user
    can read, and the ports are on loopback. Raises StartFailed.
    """
    defaults = {
        # Without these, workers run at nice 15, flush metrics that nobody reads every 100 ms and
        # give them to anybody who asks, and report usage to their vendor.
        "RAY_worker_niceness": "0",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
        "RAY_enable_metrics_collection": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        # Large blocks go back to the system when they are freed, so that a large body leaves no
        # large process. Memory that every request needs does not: to fetch a JSON parser's anew
        # took 57 us a request.
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "MALLOC_TRIM_THRESHOLD_": "8388608",
    }
    if not cluster_address():
        # Without clusters the node's address is 127.0.0.1, and Ray's servers listen only there. The
        # variable is named for the systems on which this is the default.
        defaults["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if not _names_token():
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(run / "ray-token")
            replace_private(run / "ray-token", secrets.token_hex(32).encode())
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _guard_token(warn)


def _names_token() -> bool:
    return bool(os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"))


def _guard_token(warn: Callable[[str], None]) -> None:
    """Make the file with Ray's secret private: its readers can run code on the cluster.

    Raises StartFailed if that fails or the file is missing.
    """
    if os.environ["RAY_AUTH_MODE"] != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if (path.exists() or _names_token()) and make_private(path):
        warn(
            f"{path} was open to others, and is mode 0600 now. Anybody who has read it can run "
            "code on the cluster: if others use this machine, make another token"
        )
