"""The gate's requests, with this checkout's own repository where they need one."""

from collections.abc import Sequence
from pathlib import Path

from loadtests.support.checkout import REPOSITORY

from headrace.loadtest import zoo
from headrace.loadtest.server import is_served
from headrace.loadtest.shots import Shot, infer_shot
from headrace.loadtest.zoo import MODELS, WEIGHTS

__all__ = [
    "MODELS",
    "WEIGHTS",
    "Shot",
    "infer_shot",
    "is_served",
    "shots_for",
]


def shots_for(model: str, repository: Path = REPOSITORY) -> Sequence[Shot]:
    """Requests for one model of MODELS. Raises ModelError if they need a version that `repository` does not have."""
    return zoo.shots_for(model, repository)
