"""The gate's requests, with this checkout's own repository where they need one."""

from collections.abc import Sequence
from pathlib import Path

from loadtests.support.checkout import REPOSITORY

from headrace.loadtest import zoo
from headrace.loadtest.checked_request import CheckedRequest, infer_request
from headrace.loadtest.server import is_served
from headrace.loadtest.zoo import MODELS, WEIGHTS

__all__ = [
    "MODELS",
    "WEIGHTS",
    "CheckedRequest",
    "infer_request",
    "is_served",
    "requests_for",
]


def requests_for(model: str, repository: Path = REPOSITORY) -> Sequence[CheckedRequest]:
    """Requests for one of MODELS. Raises ModelError if `repository` lacks the version they need."""
    return zoo.requests_for(model, repository)
