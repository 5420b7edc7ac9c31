"""Settings, read once: `headrace.toml`, the command line over it, and the environment, which is read here alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from headrace.edge.limits import EdgeLimits
from headrace.errors import StartFailed
from headrace.gateway.admission import DoorLimits
from headrace_models.errors import BadSpec
from headrace_models.strict_toml import read_toml

__all__ = [
    "AdminSettings",
    "GatewaySettings",
    "ModelSettings",
    "Settings",
    "cluster_address",
    "own_authorization",
    "prepare_ray",
    "read_settings",
    "with_options",
]

CONFIG_FILE = Path("headrace.toml")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# Absolute, since the processes that read it run in folders of their own.
OwnFile = Annotated[Path, AfterValidator(Path.absolute)]


class GatewaySettings(_Frozen):
    """The data port. `replicas` gateway processes share it: two, so that one may die and the port still answers.

    At the end they say that they are not ready for `shutdown_delay_s`, still answering, so that balancers send no more.

    `keys` is the key file of both ports; `insecure` lets them face a network without what `check_exposure` asks for.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    replicas: int = Field(default=2, ge=1, le=64)
    max_body_bytes: int = Field(default=16 << 20, ge=1024, le=64 << 20)
    max_in_flight: int = Field(default=1024, ge=1)
    max_connections: int = Field(default=1024, ge=1)
    default_timeout_s: float = Field(default=30.0, gt=0, le=300)
    shutdown_delay_s: float = Field(default=0.0, ge=0, le=30)
    keys: OwnFile | None = None
    tls_certificate: OwnFile | None = None
    tls_key: OwnFile | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("expected tls_certificate and tls_key, or neither; found one of them")
        return self

    @property
    def limits(self) -> DoorLimits:
        return DoorLimits(self.max_in_flight, self.default_timeout_s)

    @property
    def edge(self) -> EdgeLimits:
        return EdgeLimits(max_body_bytes=self.max_body_bytes, max_connections=self.max_connections)


class AdminSettings(_Frozen):
    host: str = "127.0.0.1"
    port: int = Field(default=8001, ge=1, le=65535)


class ModelSettings(_Frozen):
    """What to change of a model's own spec: `replicas` processes, another of its backends, cores and GPUs of each.

    `labels` are names for versions ("stable" -> "2"); `max_body_bytes` is the most of one request's body. Answers are
    kept for `cache_s` within `cache_bytes` of each gateway process; 0 keeps none.
    """

    replicas: int | None = Field(default=None, ge=1)
    backend: Literal["onnx", "torch"] | None = None
    cpus: float | None = Field(default=None, gt=0)
    gpus: float | None = Field(default=None, ge=0)
    labels: dict[str, str] = {}
    max_body_bytes: int | None = Field(default=None, ge=1024, le=64 << 20)
    cache_bytes: int = Field(default=0, ge=0)
    cache_s: float = Field(default=60.0, gt=0, le=86400)


class Objectives(_Frozen):
    """What a load test must show for a model: p99 in milliseconds, requests a second, share of failures."""

    p99_ms: float | None = Field(default=None, gt=0)
    min_rate: float | None = Field(default=None, ge=0)
    max_failure_ratio: float = Field(default=0.0, ge=0, le=1)


class Settings(_Frozen):
    """`headrace.toml`. `models` is the repository's folder; `serve` the models to serve, all of them if empty."""

    models: Path = Path("models/repository")
    serve: tuple[str, ...] = ()
    gateway: GatewaySettings = GatewaySettings()
    admin: AdminSettings = AdminSettings()
    model: dict[str, ModelSettings] = {}
    objectives: dict[str, Objectives] = {}


def read_settings(path: Path | None) -> Settings:
    """The settings of a file; of `headrace.toml` here, if it is there, when none is named. Raises StartFailed."""
    if path is None and not CONFIG_FILE.exists():
        return Settings()
    try:
        return read_toml(Settings, path or CONFIG_FILE)
    except BadSpec as error:
        raise StartFailed(str(error)) from None


def with_options(settings: Settings, options: Mapping[tuple[str, ...], object]) -> Settings:
    """The settings with the command line's over them: a place (`("gateway", "port")`) -> a value, None if not given.

    The bounds are the same as in the file. Raises StartFailed, naming the option.
    """
    document = settings.model_dump()
    for place, value in options.items():
        table = document[place[0]] if len(place) == 2 else document
        if value is not None:
            table[place[-1]] = value
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StartFailed(f"{_option(first['loc'])}: {first['msg']}, found {first['input']!r}") from None


def _option(place: tuple[int | str, ...]) -> str:
    """As it is typed: of the gateway's the last name alone, of the admin port's both."""
    return "--" + "-".join(str(step).replace("_", "-") for step in place if step != "gateway")


def cluster_address() -> str | None:
    """The Ray cluster to join, by RAY_ADDRESS; None starts one on this machine."""
    return os.environ.get("RAY_ADDRESS") or None


def own_authorization() -> dict[str, str]:
    """The Authorization header of this user's own requests, by HEADRACE_KEY; nothing where no key is set."""
    key = os.environ.get("HEADRACE_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def prepare_ray() -> None:
    """What Ray and its workers must find in their environment; a value that is set already is kept.

    Workers would run at nice 15, flush metrics that nobody reads every 100 ms, and report usage to their vendor.
    """
    defaults = {
        "RAY_worker_niceness": "0",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        # Large blocks go back to the system when they are freed, so that a large body leaves no large process; but not
        # what requests need again and again: to fetch a JSON parser's memory anew for each took 57 us.
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "MALLOC_TRIM_THRESHOLD_": "8388608",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
