"""The family of errors, without HTTP and without Ray.

`code` is stable and crosses processes with the message.

HeadraceError
├── BadRequest                 the request is wrong; the message names the field, expected and found
│   ├── BadFraming             not a well-formed HTTP message
│   │   ├── AmbiguousLength    the length of its body is ambiguous
│   │   ├── BadChunk           its chunks are not valid
│   │   └── BodyTruncated      the caller closed before the end of its body
│   ├── BadHost                not a valid Host header
│   ├── BadTarget              not a valid request target
│   ├── BadName                not a valid model name
│   ├── BadVersion             not a valid version name
│   ├── BadEncoding            a compressed body that cannot be decompressed
│   ├── BadJson                not JSON, or not the JSON that this server reads
│   ├── BadImage               a photo that cannot be read
│   ├── SequenceUnknown        a step of a sequence that is not open
│   ├── NonFiniteInput         NaN or infinity for a model that takes neither
│   ├── HeadersTooLarge        a head beyond the limit
│   ├── UriTooLong             a request target beyond the limit
│   ├── ExpectationFailed      an Expect header that is not supported
│   └── TooLarge               larger than a limit, which the message names
│       ├── BodyTooLarge
│       ├── DecompressedTooLarge
│       ├── TooManyChunks
│       └── ImageTooLarge
├── Misdirected                for a host name that is not this server's
├── ReceiptTimeout             the request did not arrive in time
├── Unauthorized               no key, or an unknown one
├── Forbidden                  the caller has no right to do this
│   └── ForeignOrigin          a web page of another site tried to make a change
├── QuotaExceeded              the key's own rate or concurrency is used up
├── Unknown                    the server does not have it
│   ├── UnknownModel
│   ├── UnknownVersion
│   └── UnknownRoute
├── WrongMethod                the path exists, but not with this method
├── UnknownMethod              not an HTTP method
├── UnknownProtocol            a version of HTTP that is not supported
├── UnsupportedMedia           a content type that is not supported
│   └── UnsupportedEncoding    a content encoding that is not supported
├── Conflict                   the request is valid, but conflicts with the current state
│   ├── SequenceLost           the replica with the sequence's state is gone
│   └── SequenceMoved          another replica has it now; internal, because gateways follow it
├── Unavailable                the request is valid and may be repeated later
│   ├── NotReady               the model has no replica that can answer now
│   ├── Overloaded             a bounded queue is full
│   ├── ReplicaLost            the replica went away before it answered
│   ├── RunStopped             the run of the batch did not finish and was stopped
│   └── ShuttingDown           the server is draining
├── DeadlineExceeded           not answered within the caller's time limit
├── ClientGone                 the caller left before the answer
├── InferenceFailed            the model raised, or its output is not valid
│   ├── AnswerTooLarge         the answer is beyond the limit
│   ├── OutOfMemory            the device has too little memory for the batch
│   └── PoisonInput            the input crashed its process, or never finished; refused for a while
└── StartFailed                the platform, or a part of it, cannot start
"""

from collections.abc import Mapping
from typing import Literal

__all__ = [
    "KINDS",
    "OUTCOMES",
    "AmbiguousLength",
    "AnswerTooLarge",
    "BadChunk",
    "BadEncoding",
    "BadFraming",
    "BadHost",
    "BadImage",
    "BadJson",
    "BadName",
    "BadRequest",
    "BadTarget",
    "BadVersion",
    "Blame",
    "BodyTooLarge",
    "BodyTruncated",
    "ClientGone",
    "Conflict",
    "DeadlineExceeded",
    "DecompressedTooLarge",
    "ExpectationFailed",
    "Forbidden",
    "ForeignOrigin",
    "HeadersTooLarge",
    "HeadraceError",
    "ImageTooLarge",
    "InferenceFailed",
    "Misdirected",
    "NonFiniteInput",
    "NotReady",
    "OutOfMemory",
    "Outcome",
    "Overloaded",
    "PoisonInput",
    "QuotaExceeded",
    "ReceiptTimeout",
    "ReplicaLost",
    "RunStopped",
    "SequenceLost",
    "SequenceMoved",
    "SequenceUnknown",
    "ShuttingDown",
    "StartFailed",
    "TooLarge",
    "TooManyChunks",
    "Unauthorized",
    "Unavailable",
    "Unknown",
    "UnknownMethod",
    "UnknownModel",
    "UnknownProtocol",
    "UnknownRoute",
    "UnknownVersion",
    "UnsupportedEncoding",
    "UnsupportedMedia",
    "UriTooLong",
    "WrongMethod",
    "error_from",
]


Blame = Literal["none", "possible", "certain"]
# The `outcome` label of metrics: answered, an error caused by the caller, the fleet's state or us,
# or the caller left.
Outcome = Literal["answered", "caller", "state", "ours", "left"]


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


class BadFraming(BadRequest):
    code = "bad_framing"


class AmbiguousLength(BadFraming):
    code = "ambiguous_length"


class BadChunk(BadFraming):
    code = "bad_chunk"


class BodyTruncated(BadFraming):
    code = "body_truncated"


class BadHost(BadRequest):
    code = "bad_host"


class BadTarget(BadRequest):
    code = "bad_target"


class BadName(BadRequest):
    code = "bad_model_name"


class BadVersion(BadRequest):
    code = "bad_version"


class BadEncoding(BadRequest):
    code = "bad_encoding"


class BadJson(BadRequest):
    code = "bad_json"


class BadImage(BadRequest):
    code = "bad_image"


class NonFiniteInput(BadRequest):
    code = "non_finite_input"


class SequenceUnknown(BadRequest):
    code = "sequence_unknown"


class HeadersTooLarge(BadRequest):
    code = "headers_too_large"


class UriTooLong(BadRequest):
    code = "uri_too_long"


class ExpectationFailed(BadRequest):
    code = "expectation_failed"


class TooLarge(BadRequest):
    code = "too_large"


class BodyTooLarge(TooLarge):
    code = "body_too_large"


class DecompressedTooLarge(TooLarge):
    code = "decompressed_too_large"


class TooManyChunks(TooLarge):
    code = "too_many_chunks"


class ImageTooLarge(TooLarge):
    code = "image_too_large"


class Misdirected(HeadraceError):
    code = "misdirected"


class ReceiptTimeout(HeadraceError):
    code = "request_timeout"


class Unauthorized(HeadraceError):
    code = "unauthorized"


class Forbidden(HeadraceError):
    code = "forbidden"


class ForeignOrigin(Forbidden):
    code = "foreign_origin"


class QuotaExceeded(HeadraceError):
    code = "quota_exceeded"


class Unknown(HeadraceError):
    code = "unknown"


class UnknownModel(Unknown):
    code = "model_not_found"


class UnknownVersion(Unknown):
    code = "version_not_found"


class UnknownRoute(Unknown):
    code = "not_found"


class WrongMethod(HeadraceError):
    """`allowed` are the methods of the path, as the Allow header lists them."""

    code = "method_not_allowed"

    def __init__(self, message: str, retry_after_s: float | None = None, allowed: str = "") -> None:
        super().__init__(message, retry_after_s)
        self.args = (message, retry_after_s, allowed)
        self.allowed = allowed


class UnknownMethod(HeadraceError):
    code = "method_not_implemented"


class UnknownProtocol(HeadraceError):
    code = "http_version_not_supported"


class UnsupportedMedia(HeadraceError):
    code = "unsupported_media_type"


class UnsupportedEncoding(UnsupportedMedia):
    code = "unsupported_encoding"


class Conflict(HeadraceError):
    code = "conflict"


class SequenceLost(Conflict):
    code = "sequence_lost"


class SequenceMoved(Conflict):
    code = "sequence_moved"


class Unavailable(HeadraceError):
    code = "unavailable"


class NotReady(Unavailable):
    """`may_pass`: a caller with time may wait for a replica. It does not cross processes."""

    code = "model_not_ready"

    def __init__(
        self, message: str, retry_after_s: float | None = None, *, may_pass: bool = False
    ) -> None:
        super().__init__(message, retry_after_s)
        self.may_pass = may_pass


class Overloaded(Unavailable):
    code = "overloaded"


class ReplicaLost(Unavailable):
    """A replica went away before it answered.

    `blame` says whether the request caused that: "none" if it did not run, "possible" if it may
    have run, perhaps beside others, and "certain" if it ran alone.
    """

    code = "replica_unavailable"

    def __init__(
        self, message: str, retry_after_s: float | None = None, blame: Blame = "none"
    ) -> None:
        super().__init__(message, retry_after_s)
        self.args = (message, retry_after_s, blame)
        self.blame = blame


class RunStopped(Unavailable):
    """The model did not end on a batch.

    `blame` says whether the request caused that: "possible" if others were in the batch, "certain"
    if it was alone. It is never "none".
    """

    code = "run_stopped"

    def __init__(
        self, message: str, retry_after_s: float | None = None, blame: Blame = "possible"
    ) -> None:
        super().__init__(message, retry_after_s)
        self.args = (message, retry_after_s, blame)
        self.blame = blame


class ShuttingDown(Unavailable):
    code = "shutting_down"


class DeadlineExceeded(HeadraceError):
    code = "deadline_exceeded"


class ClientGone(HeadraceError):
    code = "client_gone"


class InferenceFailed(HeadraceError):
    code = "model_error"


class AnswerTooLarge(InferenceFailed):
    code = "response_too_large"


class OutOfMemory(InferenceFailed):
    code = "out_of_memory"


class PoisonInput(InferenceFailed):
    code = "poison_input"


class StartFailed(HeadraceError):
    code = "start_failed"


def _family(root: type[HeadraceError]) -> list[type[HeadraceError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _family(child))]


KINDS = tuple(_family(HeadraceError))
_BY_CODE = {kind.code: kind for kind in KINDS}

# The cause of each error; a subclass has that of its nearest listed base. "caller": it must send
# another request, or fewer by its key's limits. "state": the same request may be answered a moment
# later, elsewhere, or with more time. "ours": all others, which a sound server with a sound model
# does not have.
_OUTCOMES: dict[type[HeadraceError], Outcome] = {
    HeadraceError: "ours",
    BadRequest: "caller",
    ReceiptTimeout: "caller",
    Unauthorized: "caller",
    Forbidden: "caller",
    Misdirected: "caller",
    QuotaExceeded: "caller",
    Unknown: "caller",
    WrongMethod: "caller",
    UnknownMethod: "caller",
    UnknownProtocol: "caller",
    UnsupportedMedia: "caller",
    Conflict: "caller",
    SequenceLost: "state",
    SequenceMoved: "state",
    Unavailable: "state",
    DeadlineExceeded: "state",
    ClientGone: "left",
}
OUTCOMES: Mapping[str, Outcome] = {
    kind.code: next(_OUTCOMES[base] for base in kind.__mro__ if base in _OUTCOMES) for kind in KINDS
}


def error_from(
    code: str, message: str, retry_after_s: float | None = None, blame: Blame = "none"
) -> HeadraceError:
    """Rebuild another process's error by its code; an unknown code gives an InferenceFailed."""
    kind = _BY_CODE.get(code, InferenceFailed)
    if issubclass(kind, ReplicaLost | RunStopped):
        return kind(message, retry_after_s, blame)
    return kind(message, retry_after_s)
