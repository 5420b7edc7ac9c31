"""A hash that is equal for requests that are the same to a model."""

import asyncio
from hashlib import blake2b

import msgspec

from headrace.inference.request import Request
from headrace_models.spec import ModelSpec

__all__ = ["digest_of"]

_DIGEST_BYTES = 16
# Hashing more than this takes longer than half a millisecond, and is done in a thread.
_INLINE_BYTES = 512 << 10


async def digest_of(spec: ModelSpec, request: Request) -> bytes:
    """Hash all that the answer's tensors depend on, in order.

    That is the model's name, version and files, the outputs asked for, and the inputs. Left out is
    what does not change the tensors: deadline, priority, API key, request id, and the form of the
    answer. Left out is the sequence, too, as a step's answer depends on its replica's state.
    """
    if request.nbytes <= _INLINE_BYTES:
        return _digest(spec, request)
    return await asyncio.to_thread(_digest, spec, request)


def _digest(spec: ModelSpec, request: Request) -> bytes:
    """Hash a head that says how long each part is, so that no two requests give equal bytes."""
    inputs = [(t.name, t.datatype, t.shape, len(t.data)) for t in request.inputs]
    head = msgspec.msgpack.encode(
        (spec.name, spec.version, spec.files, tuple(request.outputs), inputs)
    )
    hasher = blake2b(len(head).to_bytes(4, "little") + head, digest_size=_DIGEST_BYTES)
    for tensor in request.inputs:
        hasher.update(tensor.data)
    return hasher.digest()
