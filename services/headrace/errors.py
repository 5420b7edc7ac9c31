"""One error family; no HTTP in it and no Ray. `code` is stable and crosses processes with the message.

HeadraceError
├── BadRequest                 the request itself is wrong; the message names the field, expected and found
│   ├── BadFraming             not the one HTTP message that it should be
│   │   ├── AmbiguousLength    its body's length is said in two ways, or in none that counts
│   │   ├── BadChunk           its chunks are not what HTTP says chunks are
│   │   └── BodyTruncated      the caller ended before its body did
│   ├── BadHost
│   ├── BadTarget              a path that is none
│   ├── BadName                a name that no model can have
│   ├── BadVersion             a name that no version can have
│   ├── BadEncoding            a compressed body that does not inflate
│   ├── BadJson                not JSON, or not what this server reads of it
│   ├── BadImage               a photo that cannot be read
│   ├── SequenceUnknown        a step of a sequence that is not open
│   ├── NonFiniteInput         NaN or infinity for a model that takes neither
│   ├── HeadersTooLarge
│   ├── UriTooLong
│   ├── ExpectationFailed      an Expect header that asks for what is not done here
│   └── TooLarge               larger than a limit that the message names
│       ├── BodyTooLarge
│       ├── DecompressedTooLarge
│       ├── TooManyChunks
│       └── ImageTooLarge
├── Misdirected                for a name that is not this server's
├── ReceiptTimeout             the request did not arrive in the time it is given
├── Unauthorized               no key, or none of ours
├── Forbidden                  a caller of ours who may not do this
│   └── ForeignOrigin          a page of another site that would change something
├── QuotaExceeded              the key's own rate or concurrency is used up
├── Unknown                    no such thing here
│   ├── UnknownModel
│   ├── UnknownVersion
│   └── UnknownRoute
├── WrongMethod                the route exists, not for this verb
├── UnknownMethod              a verb that HTTP does not have
├── UnknownProtocol            a version of HTTP that is not spoken here
├── UnsupportedMedia           a content type that nothing here reads
│   └── UnsupportedEncoding    a content encoding that nothing here reads
├── Conflict                   right by itself, but not beside what else goes on
│   ├── SequenceLost           the replica that held the sequence's state is gone
│   └── SequenceMoved          another replica holds it now; between our processes alone, a gateway follows it
├── Unavailable                right request, wrong moment; may be repeated
│   ├── NotReady               the model has no replica that can answer now
│   ├── Overloaded             a bounded line is full
│   ├── ReplicaLost            the replica went away before it answered
│   ├── RunStopped             the model did not end on its batch and was stopped
│   └── ShuttingDown
├── DeadlineExceeded           not answered inside the caller's time
├── ClientGone                 the caller left before the answer
├── InferenceFailed            the model raised, or gave something that is no answer
│   ├── AnswerTooLarge         it gave more than an answer may have
│   ├── OutOfMemory            its device has too little memory for the batch
│   └── PoisonInput            the input ended the process that ran it, or its run did not end; refused for a while
└── StartFailed                the platform or a part of it cannot start; for the operator
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
# How a request ends, as metrics tell it: answered, or in an error of this one's, or its caller left.
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
    """`allowed` are the verbs that the path has, as HTTP lists them."""

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
    """`may_pass`: whoever has time may wait for a replica to become ready. It does not cross processes."""

    code = "model_not_ready"

    def __init__(
        self, message: str, retry_after_s: float | None = None, *, may_pass: bool = False
    ) -> None:
        super().__init__(message, retry_after_s)
        self.may_pass = may_pass


class Overloaded(Unavailable):
    code = "overloaded"


class ReplicaLost(Unavailable):
    """`blame`: may the request have ended the replica? "none" if it did not run there, "certain" if it ran alone."""

    code = "replica_unavailable"

    def __init__(
        self, message: str, retry_after_s: float | None = None, blame: Blame = "none"
    ) -> None:
        super().__init__(message, retry_after_s)
        self.args = (message, retry_after_s, blame)
        self.blame = blame


class RunStopped(Unavailable):
    """`blame`: "certain" if the request was alone in the run, else "possible"."""

    code = "run_stopped"

    def __init__(
        self, message: str, retry_after_s: float | None = None, blame: Blame = "none"
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

# Whose an error is; a subclass's is that of the nearest class above it that is listed. The caller's: it must ask for
# something else, or less often by its own key's limits. The state of the fleet: the same request may be answered in a
# moment, elsewhere, or with more time. Ours is all else: what a sound server and a sound model do not do.
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
    kind.code: next(_OUTCOMES[above] for above in kind.__mro__ if above in _OUTCOMES)
    for kind in KINDS
}


def error_from(
    code: str, message: str, retry_after_s: float | None = None, blame: Blame = "none"
) -> HeadraceError:
    """The error that another process named by its code; an unknown code is an InferenceFailed."""
    kind = _BY_CODE.get(code, InferenceFailed)
    if issubclass(kind, ReplicaLost | RunStopped):
        return kind(message, retry_after_s, blame)
    return kind(message, retry_after_s)
