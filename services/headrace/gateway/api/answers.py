"""Answers in JSON: typed documents, and the headers that say how a model was run.

A document is a TypedDict: mypy checks what a handler fills in, orjson writes it as it is, and
msgspec makes its schema.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import orjson
from msgspec import Meta

from headrace.edge.exchange import Response
from headrace.inference.request import Answer
from headrace.inference.tensor import Array

__all__ = ["Base64", "Count", "Finite", "Truncated", "Written", "answer_headers", "json_response"]

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0)]
Finite = Annotated[float | None, Meta(description="null if it is not finite")]
Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
Truncated = Annotated[
    list[Count], Meta(description="the positions of the texts whose end was cut off, if any was")
]

if TYPE_CHECKING:
    Written: TypeAlias = orjson.Fragment | Array | T
else:

    class Written:
        """A member that is JSON text or an array; its schema is that of the type in brackets."""

        def __class_getitem__(cls, written: type[T]) -> type[T]:
            return written


def json_response(
    document: Mapping[str, object] | Sequence[object], *headers: tuple[bytes, bytes]
) -> Response:
    return Response(200, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), headers=headers)


def answer_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Server-Timing, and X-Truncated if any text was cut."""
    timing = _server_timing(answer)
    if not answer.truncated:
        return [timing]
    return [timing, (b"x-truncated", b"%d" % len(answer.truncated))]


def _server_timing(answer: Answer) -> tuple[bytes, bytes]:
    times = answer.times
    text = (
        f"queue;dur={times.queue_s * 1e3:.3f}, preprocess;dur={times.preprocess_s * 1e3:.3f}, "
        f"compute;dur={times.compute_s * 1e3:.3f}, batch;desc={times.batch_rows}, "
        f"padding;desc={times.padding:.2f}"
    )
    return b"server-timing", (f"cache;desc=hit, {text}" if answer.is_cached else text).encode()
