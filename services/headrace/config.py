"""Settings, read once: `headrace.toml`, the command line over it, and the environment, which is read here alone."""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from headrace.edge.cors import ANY_ORIGIN
from headrace.edge.limits import EdgeLimits
from headrace.edge.names import ANY_NAME
from headrace.edge.readers import Readers
from headrace.errors import StartFailed
from headrace.gateway.admission import GatewayLimits
from headrace.keys.private import make_private, replace_private
from headrace_models.errors import BadSpec
from headrace_models.spec import BackendName
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

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_ORIGIN = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# Absolute, since the processes that read it run in folders of their own.
OwnFile = Annotated[Path, AfterValidator(Path.absolute)]


def _as_name(text: str) -> str:
    if text != ANY_NAME and not _NAME.fullmatch(text):
        raise ValueError('expected a name without scheme and port, as models.example, or "*"')
    return text


def _as_origin(text: str) -> str:
    """As browsers send it: in lower case, and without the scheme's own port."""
    if text != ANY_ORIGIN and not _ORIGIN.fullmatch(text):
        raise ValueError(
            'expected scheme://host or scheme://host:port, as https://app.example, or "*"'
        )
    return re.sub(r"^(http://.*):80$|^(https://.*):443$", r"\1\2", text.lower())


OwnName = Annotated[str, AfterValidator(_as_name)]
Origin = Annotated[str, AfterValidator(_as_origin)]


class GatewaySettings(_Frozen):
    """The data port. `replicas` gateway processes share it: two, so that one may die and the port still answers.

    At the end they say that they are not ready for `shutdown_delay_s`, still answering, so that balancers send no more.

    `keys` is the key file of both ports; `insecure` lets them face a network without what `check_exposure` asks for.
    `names` are names of both ports beside their hosts, or "*" for any. Pages of `origins` may ask here and read the
    answers; "*" is every page.
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
    names: tuple[OwnName, ...] = ()
    origins: tuple[Origin, ...] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("expected tls_certificate and tls_key, or neither; found one of them")
        return self

    @property
    def limits(self) -> GatewayLimits:
        return GatewayLimits(self.max_in_flight, self.default_timeout_s)

    def readers(self, token: str) -> Readers:
        """Who may read metrics beyond loopback. Without keys a network that is said to be closed is taken as that."""
        return Readers(token, self.keys, is_open=self.insecure and self.keys is None)

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
    backend: BackendName | None = None
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
        raise StartFailed(
            f"{_option(first['loc'])}: {first['msg']}, found {first['input']!r}"
        ) from None


def _option(place: tuple[int | str, ...]) -> str:
    """As it is typed: of the gateway's the last name alone, of the admin port's both."""
    return "--" + "-".join(str(step).replace("_", "-") for step in place if step != "gateway")


def cluster_address() -> str | None:
    """The Ray cluster to join, by RAY_ADDRESS; None starts one on this machine, which Ray calls "local"."""
    address = os.environ.get("RAY_ADDRESS")
    return None if address in ("", "local") else address


def own_authorization() -> dict[str, str]:
    """The Authorization header of this user's own requests, by HEADRACE_KEY; nothing where no key is set."""
    key = os.environ.get("HEADRACE_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def prepare_ray(run: Path, warn: Callable[[str], None]) -> None:
    """What Ray and its workers must find in their environment; a value that is set already is kept.

    Where a node is started here, the secret that opens Ray's ports lies in `run`, which is nobody else's to look into,
    and these ports are on loopback. Raises StartFailed.
    """
    defaults = {
        # Workers would run at nice 15, flush metrics that nobody reads every 100 ms and give them to whoever asks, and
        # report usage to their vendor.
        "RAY_worker_niceness": "0",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
        "RAY_enable_metrics_collection": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        # Large blocks go back to the system when they are freed, so that a large body leaves no large process; but not
        # what requests need again and again: to fetch a JSON parser's memory anew for each took 57 us.
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "MALLOC_TRIM_THRESHOLD_": "8388608",
    }
    if not cluster_address():
        # Without clusters the node's address is 127.0.0.1, and Ray's servers listen there alone. The name is of the
        # systems for which this is the default.
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
    """Whoever reads the file with Ray's secret runs code on the cluster. Raises StartFailed then, or if nobody can."""
    if os.environ["RAY_AUTH_MODE"] != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if (path.exists() or _names_token()) and make_private(path):
        warn(
            f"{path} was open to others, and is mode 0600 now. Who has read it can run code on the cluster: "
            "if others use this machine, make another token"
        )
