"""One error family; no HTTP in it and no Ray. `code` is stable and crosses processes with the message.

HeadraceError
├── BadRequest             the request itself is wrong; the message names the field, expected and found
│   └── TooLarge           larger than a limit that the message names
├── Unknown                no such thing here
│   ├── UnknownModel
│   ├── UnknownVersion
│   └── UnknownRoute
├── WrongMethod            the route exists, not for this verb
├── UnsupportedMedia       a content type or encoding that nothing here reads
├── Unavailable            right request, wrong moment; may be repeated
│   ├── NotReady           the model has no replica that can answer now
│   ├── Overloaded         a bounded line is full
│   ├── ReplicaLost        the replica went away before it answered
│   └── ShuttingDown
├── DeadlineExceeded       not answered inside the caller's time
├── ClientGone             the caller left before the answer
├── InferenceFailed        the model raised, or gave something that is no answer
└── StartFailed            the platform or a part of it cannot start; for the operator
"""

__all__ = [
    "BadRequest",
    "ClientGone",
    "DeadlineExceeded",
    "HeadraceError",
    "InferenceFailed",
    "NotReady",
    "Overloaded",
    "ReplicaLost",
    "ShuttingDown",
    "StartFailed",
    "TooLarge",
    "Unavailable",
    "Unknown",
    "UnknownModel",
    "UnknownRoute",
    "UnknownVersion",
    "UnsupportedMedia",
    "WrongMethod",
    "error_from",
]


class HeadraceError(Exception):
    """Base of the family. `retry_after_s` is set where repeating makes sense."""

    code = "internal"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class BadRequest(HeadraceError):
    code = "bad_request"


class TooLarge(BadRequest):
    code = "too_large"


class Unknown(HeadraceError):
    code = "not_found"


class UnknownModel(Unknown):
    code = "model_not_found"


class UnknownVersion(Unknown):
    code = "version_not_found"


class UnknownRoute(Unknown):
    code = "route_not_found"


class WrongMethod(HeadraceError):
    """`allowed` are the verbs that the path has, as HTTP lists them."""

    code = "method_not_allowed"

    def __init__(self, message: str, retry_after_s: float | None = None, allowed: str = "") -> None:
        super().__init__(message, retry_after_s)
        self.args = (message, retry_after_s, allowed)
        self.allowed = allowed


class UnsupportedMedia(HeadraceError):
    code = "unsupported_media_type"


class Unavailable(HeadraceError):
    code = "unavailable"


class NotReady(Unavailable):
    code = "model_not_ready"


class Overloaded(Unavailable):
    code = "overloaded"


class ReplicaLost(Unavailable):
    code = "replica_lost"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class DeadlineExceeded(HeadraceError):
    code = "deadline_exceeded"


class ClientGone(HeadraceError):
    code = "client_gone"


class InferenceFailed(HeadraceError):
    code = "inference_failed"


class StartFailed(HeadraceError):
    code = "start_failed"


def _family(root: type[HeadraceError]) -> list[type[HeadraceError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _family(child))]


_BY_CODE = {kind.code: kind for kind in _family(HeadraceError)}


def error_from(code: str, message: str, retry_after_s: float | None = None) -> HeadraceError:
    """The error that another process named by its code; an unknown code is an InferenceFailed."""
    return _BY_CODE.get(code, InferenceFailed)(message, retry_after_s)
