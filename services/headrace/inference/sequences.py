"""Sequences in the whole fleet: keys, names, the replica where each belongs, and snapshots."""

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from headrace.errors import BadRequest
from headrace.inference.tensor import Array, Tensor, from_array, to_array

__all__ = ["SequenceKey", "SequenceSnapshot", "home_of", "pack", "sequence_name", "unpack"]


class SequenceKey(NamedTuple):
    """Tells the sequences of a model apart."""

    key_id: str
    id: str


class SequenceSnapshot(NamedTuple):
    """A sequence and its state: arrays by name, of any shape."""

    key: SequenceKey
    state: Mapping[str, Array]


# A snapshot as a frame lists it: its key, and the names of its tensors.
Listed = tuple[SequenceKey, tuple[str, ...]]


def sequence_name(model: str, key: SequenceKey) -> str:
    """A sequence's name in the whole fleet."""
    return f"{model}\0{key.key_id}\0{key.id}"


def home_of(name: str, replicas: Collection[str]) -> str:
    """Pick the replica where a sequence belongs: the one with the largest hash of both names.

    All processes agree on it without talking to each other. When replicas join or leave, only the
    sequences that these get or had change their home.
    """
    return max(
        replicas, key=lambda replica: blake2b(f"{replica}\0{name}".encode(), digest_size=8).digest()
    )


def pack(snapshots: Sequence[SequenceSnapshot]) -> tuple[tuple[Listed, ...], list[Tensor]]:
    """Split snapshots into what a TakeOver frame lists and the tensors behind it."""
    listed = tuple((snapshot.key, tuple(snapshot.state)) for snapshot in snapshots)
    tensors = [
        from_array(name, array) for snapshot in snapshots for name, array in snapshot.state.items()
    ]
    return listed, tensors


def unpack(listed: Sequence[Listed], tensors: Sequence[Tensor]) -> list[SequenceSnapshot]:
    """Join what `pack` split. Copies the tensors, which are views that would keep their frame.

    Raises BadRequest if the tensors are not those listed.
    """
    expected = sum(len(names) for _, names in listed)
    if expected != len(tensors):
        raise BadRequest(
            f"frame: expected the {expected} tensors that its sequences list, found {len(tensors)}"
        )
    arrays = iter(tensors)
    return [
        SequenceSnapshot(key, {name: to_array(next(arrays)).copy() for name in names})
        for key, names in listed
    ]
