"""The gateway's sections of `headrace.toml`. docs/settings.md is made of the descriptions."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from headrace.edge.cors import ANY_ORIGIN
from headrace.edge.limits import ListenerSettings
from headrace.edge.names import ANY_NAME
from headrace.edge.readers import Readers
from headrace_models.strict_toml import Table

__all__ = ["CacheLimits", "GatewayLimits", "GatewayModelSettings", "GatewaySettings"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_ORIGIN = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
)


def _as_name(text: str) -> str:
    if text != ANY_NAME and not _NAME.fullmatch(text):
        raise ValueError('expected a name without scheme and port, as models.example, or "*"')
    return text


def _as_origin(text: str) -> str:
    """The origin as browsers send it: in lower case, without the scheme's default port."""
    if text != ANY_ORIGIN and not _ORIGIN.fullmatch(text):
        raise ValueError(
            'expected scheme://host or scheme://host:port, as https://app.example, or "*"'
        )
    return re.sub(r"^(http://.*):80$|^(https://.*):443$", r"\1\2", text.lower())


# Absolute, since the processes that read it run in folders of their own.
OwnFile = Annotated[Path, AfterValidator(Path.absolute)]
OwnName = Annotated[str, AfterValidator(_as_name)]
Origin = Annotated[str, AfterValidator(_as_origin)]


class GatewayLimits(Table):
    """Limits of one gateway process on requests."""

    max_in_flight: int = Field(
        default=1024,
        ge=1,
        description="Most requests that one gateway process works on at once; more are refused.",
    )
    default_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=300,
        description="Time for a request that does not set its own.",
    )


class GatewaySettings(GatewayLimits, ListenerSettings):
    """The data port."""

    host: str = Field(default="127.0.0.1", description="Address of the data port.")
    port: int = Field(default=8000, ge=1, le=65535, description="The data port.")
    replicas: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Gateway processes that share the port. With two, the port still answers "
        "when one dies.",
    )
    shutdown_delay_s: float = Field(
        default=0.0,
        ge=0,
        le=30,
        description="Time at the end in which a gateway reports not ready and still answers, "
        "so that balancers stop sending.",
    )
    keys: OwnFile | None = Field(
        default=None, description="Key file of both ports. Without it nobody needs a key."
    )
    tls_certificate: OwnFile | None = Field(
        default=None, description="Certificate of the data port, in PEM; with `tls_key`."
    )
    tls_key: OwnFile | None = Field(default=None, description="Private key of the certificate.")
    insecure: bool = Field(
        default=False,
        description="Start without keys or TLS although other machines reach a port; "
        "otherwise `headrace serve` refuses that.",
    )
    names: tuple[OwnName, ...] = Field(
        default=(),
        description='Names of both ports beside their hosts, addresses and localhost; "*" for any.',
    )
    origins: tuple[Origin, ...] = Field(
        default=(),
        description='Origins whose web pages may send requests and read the answers; "*" for any.',
    )

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("expected tls_certificate and tls_key, or neither; found one of them")
        return self

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """The files of the certificate and of its key."""
        if self.tls_certificate and self.tls_key:
            return self.tls_certificate, self.tls_key
        return None

    def readers(self, token: str) -> Readers:
        """The readers of metrics beyond loopback; in a closed network without keys, everybody."""
        return Readers(token, self.keys, is_open=self.insecure and self.keys is None)


class CacheLimits(Table):
    """The response cache of one model in each gateway process."""

    cache_bytes: int = Field(
        default=0,
        ge=0,
        description="Size of the model's response cache in each gateway process; 0 is no cache.",
    )
    cache_s: float = Field(
        default=60.0, gt=0, le=86400, description="Time for which a cached answer is used."
    )


class GatewayModelSettings(CacheLimits):
    """A model's settings that gateways read."""

    labels: dict[str, str] = Field(
        default={}, description='Names for versions, such as { stable = "2" }.'
    )
    max_body_bytes: int | None = Field(
        default=None,
        ge=1024,
        le=64 << 20,
        description="Largest body of a request for this model; that of `[gateway]` if not set.",
    )
