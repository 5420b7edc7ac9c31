"""The names of models and their versions: in paths of URLs, folders and `model.toml`."""

import re

__all__ = [
    "MAX_MODEL_NAME",
    "MODEL_NAME_PATTERN",
    "VERSION_NAME_PATTERN",
    "VersionId",
    "is_model_name",
    "is_version_name",
]

VersionId = tuple[str, str]  # a model's name and version

MAX_MODEL_NAME = 128

# With anchors, as JSON Schema and pydantic want them.
MODEL_NAME_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_MODEL_NAME - 1}}}$"
VERSION_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"

_MODEL_NAME = re.compile(MODEL_NAME_PATTERN)
_VERSION_NAME = re.compile(VERSION_NAME_PATTERN)


def is_model_name(text: str) -> bool:
    # Not `match`: "$" would let a final line break pass.
    return _MODEL_NAME.fullmatch(text) is not None


def is_version_name(text: str) -> bool:
    return _VERSION_NAME.fullmatch(text) is not None
