"""What makes two requests the same to a model: one hash over everything that its tensors depend on."""

import asyncio
from hashlib import blake2b

import msgspec

from headrace.inference.request import Request
from headrace_models.spec import ModelSpec

__all__ = ["DIGEST_BYTES", "digest_of"]

DIGEST_BYTES = 16
# Hashing more than this takes longer than half a millisecond, and is done in a thread.
_INLINE_BYTES = 512 << 10


async def digest_of(spec: ModelSpec, request: Request) -> bytes:
    """Of the model's name, version and files, the outputs asked for, and the inputs, all in their order.

    Not of what leaves the tensors as they are: deadline, priority, key_id, request id, and how the answer is written
    (its form, the classes of an output). Whatever is added to a request and changes its tensors belongs in here. Nor
    of the sequence: what a step's answer depends on is in its replica.
    """
    if request.nbytes <= _INLINE_BYTES:
        return _digest(spec, request)
    return await asyncio.to_thread(_digest, spec, request)


def _digest(spec: ModelSpec, request: Request) -> bytes:
    """The head says how long each part of the rest is, so that no two requests are written alike."""
    inputs = [(t.name, t.datatype, t.shape, len(t.data)) for t in request.inputs]
    head = msgspec.msgpack.encode(
        (spec.name, spec.version, spec.files, tuple(request.outputs), inputs)
    )
    hasher = blake2b(len(head).to_bytes(4, "little") + head, digest_size=DIGEST_BYTES)
    for tensor in request.inputs:
        hasher.update(tensor.data)
    return hasher.digest()
