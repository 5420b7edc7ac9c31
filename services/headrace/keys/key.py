"""A key: the text that a caller presents, and the record that the server keeps."""

import fnmatch
import hashlib
import secrets
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from headrace.errors import StartFailed
from headrace_models.names import MAX_MODEL_NAME

__all__ = ["Key", "digest_of", "fault", "issue", "utc_now"]

# 256 random bits cannot be guessed, so a fast hash is enough.
SECRET_BYTES = 32
KeyId = Annotated[str, Field(pattern=r"^[a-z0-9]{4,32}$")]
Glob = Annotated[str, Field(pattern=r"^[A-Za-z0-9._*?\[\]!-]{1,128}$")]
# Printable and short: names appear in tables and logs.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 @._-]{0,63}$")]


class Key(BaseModel):
    """One key of the file, with its secret only as a SHA-256.

    `id` is public: logs and metrics may name it.

    `rate` is in requests a second, with bursts up to max(1, rate). None means no limit, also for
    `concurrency`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    id: KeyId
    name: Name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    models: tuple[Glob, ...] = Field(default=("*",), min_length=1, max_length=64)
    rate: float | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, ge=1)
    admin: bool = False
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: bool = False

    def may_use(self, model: str) -> bool:
        """True if one of the key's patterns matches the model's name; case counts."""
        # The bound also limits what is remembered of names that callers made up.
        return len(model) <= MAX_MODEL_NAME and _fits(self.models, model)

    def state(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        if self.revoked:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "valid"

    @property
    def burst(self) -> float:
        return max(1.0, self.rate or 1.0)


@lru_cache(maxsize=1024)
def _fits(patterns: tuple[str, ...], model: str) -> bool:
    return any(fnmatch.fnmatchcase(model, pattern) for pattern in patterns)


def issue(
    name: str,
    created: datetime,
    *,
    models: tuple[str, ...] = ("*",),
    rate: float | None = None,
    concurrency: int | None = None,
    admin: bool = False,
    expires: datetime | None = None,
) -> tuple[Key, str]:
    """A new key and its text, `hr_<id>.<secret>`, which is stored nowhere.

    Raises StartFailed if a value is wrong.
    """
    secret = secrets.token_urlsafe(SECRET_BYTES)
    try:
        key = Key(
            id=secrets.token_hex(6),
            name=name,
            sha256=digest_of(secret),
            models=models,
            rate=rate,
            concurrency=concurrency,
            admin=admin,
            created=created,
            expires=expires,
        )
    except ValidationError as error:
        raise StartFailed(fault(error)) from None
    return key, f"hr_{key.id}.{secret}"


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def fault(error: ValidationError) -> str:
    """The first fault as `where: reason`, without the value that was found."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def utc_now() -> datetime:
    return datetime.now(UTC)
