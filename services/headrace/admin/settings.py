"""The admin port's section of `headrace.toml`."""

from pydantic import Field

from headrace_models.strict_toml import Table

__all__ = ["AdminSettings"]


class AdminSettings(Table):
    """The admin port."""

    host: str = Field(default="127.0.0.1", description="Address of the admin port.")
    port: int = Field(default=8001, ge=1, le=65535, description="The admin port.")
